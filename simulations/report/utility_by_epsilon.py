"""Utility against ε: the rows of a run by the budget that each had."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from simulations.report.metrics_file import MetricsFile, MetricsRow
from simulations.report.sweep_beside import SweptResult, SweptRow

METRICS = ("hr_10", "ndcg_10")
_BUDGET_IN_NAME = re.compile(r"\s*\((?:no privacy|[^()]*ε=[^()]*)\)")


def utility_by_epsilon(
    metrics: MetricsFile, unit: str, siblings: Sequence[SweptResult] = ()
) -> dict[str, Any]:
    """Sort the rows of a run into methods that have a budget and levels that have none.

    Args:
        metrics: the evaluation of the run.
        unit: `privacy.unit` of the run.
        siblings: the results at each budget of a sweep that the run lies in; they stand in
            place of the run's own model and floors, which they hold too.

    Returns:
        `series`, one per method with a budget (null for ε = ∞), and `references`: the best
        pooled baseline, popularity, and whatever else no ε applies to.
    """
    with_budget = [row for row in metrics.rows if row.kind == "model" or row.epsilon is not None]
    others = [row for row in metrics.rows if row not in with_budget]
    own = [
        {"name": method_name(row), "kind": row.kind, "points": [_point(row, row.epsilon, 1)]}
        for row in with_budget
    ]
    swept = _swept(siblings, method_name(metrics.rows[0]))
    known = {(one["kind"], one["name"]) for one in swept}
    return {
        "unit": unit,
        "is_sweep": bool(swept),
        "series": swept + [one for one in own if (one["kind"], one["name"]) not in known],
        "references": [
            {"name": row.name, "kind": row.kind} | _intervals(row) for row in _telling(others)
        ],
    }


def method_name(row: MetricsRow) -> str:
    """The row's name without its budget, the same at every ε."""
    return _BUDGET_IN_NAME.sub("", row.name)


def _telling(rows: list[MetricsRow]) -> list[MetricsRow]:
    """Of the pooled baselines, the best and popularity; of other rows, all."""
    baselines = [row for row in rows if row.kind == "baseline"]
    best = max(baselines, key=lambda row: row.ndcg_10.mean, default=None)
    return [row for row in rows if row.kind != "baseline" or row is best or row.name == "Pop"]


def _swept(siblings: Sequence[SweptResult], model: str) -> list[dict[str, Any]]:
    """The model and each private floor, over all budgets of a sweep."""
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for found in siblings:
        series.setdefault(("model", model), []).append(_point(found, found.epsilon, found.seeds))
        for floor in found.floors:
            point = _point(floor, found.epsilon, found.seeds)
            series.setdefault((floor.kind, floor.name), []).append(point)
    return [{"name": n, "kind": k, "points": points} for (k, n), points in series.items()]


def _point(
    row: MetricsRow | SweptResult | SweptRow, epsilon: float | None, seeds: int
) -> dict[str, Any]:
    return {"epsilon": epsilon, "seeds": seeds} | _intervals(row)


def _intervals(row: MetricsRow | SweptResult | SweptRow) -> dict[str, Any]:
    return {name: getattr(row, name).model_dump(mode="json") for name in METRICS}

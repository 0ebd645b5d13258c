"""Utility against ε: the rows of a run by the budget that each had."""

from __future__ import annotations

import re
from typing import Any

from simulations.report.metrics_file import MetricsFile, MetricsRow

METRICS = ("hr_10", "ndcg_10")
_BUDGET_IN_NAME = re.compile(r"\s*\((?:no privacy|[^()]*ε=[^()]*)\)")


def utility_by_epsilon(metrics: MetricsFile, unit: str) -> dict[str, Any]:
    """Sort the rows of a run into methods that have a budget and levels that have none.

    Args:
        metrics: the evaluation of the run.
        unit: `privacy.unit` of the run.

    Returns:
        `series`, one per method with a budget (null for ε = ∞), and `references`: the best
        pooled baseline, popularity, and whatever else no ε applies to.
    """
    with_budget = [row for row in metrics.rows if row.kind == "model" or row.epsilon is not None]
    others = [row for row in metrics.rows if row not in with_budget]
    return {
        "unit": unit,
        "is_sweep": False,
        "series": [
            {"name": method_name(row), "kind": row.kind, "points": [_point(row)]}
            for row in with_budget
        ],
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


def _point(row: MetricsRow) -> dict[str, Any]:
    return {"epsilon": row.epsilon} | _intervals(row)


def _intervals(row: MetricsRow) -> dict[str, Any]:
    return {name: getattr(row, name).model_dump(mode="json") for name in METRICS}

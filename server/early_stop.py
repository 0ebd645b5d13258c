"""When a run ends before its last round: validation that no longer gets better.

The rule reads what sites answered, and nothing else. In a private run these are noised, charged
releases (`common.metrics_plan`), planned for all rounds: stopping is post-processing, it costs
nothing, and the answers that are never asked for are never charged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from common.config import RunConfig

METRIC = "ndcg_10"


def validations(lines: Iterable[Mapping[str, Any]]) -> list[float]:
    """NDCG@10 of each validation in the lines of ``rounds.jsonl``, in order."""
    found = (line.get("validation") for line in lines if line["server_round"] > 0)
    return [float(each[METRIC]) for each in found if each is not None]


def stop_reason(values: list[float], config: RunConfig) -> str:
    """Why the run ends now; empty: it goes on.

    Args:
        values: NDCG@10 of every validation so far, oldest first.
        config: of the run; `evaluation.patience` validations in a row may be no better.
    """
    patience = config.evaluation.patience
    if patience == 0 or len(values) <= patience:
        return ""
    best = max(values[:-patience])
    if max(values[-patience:]) > best:
        return ""
    return (
        f"validation {METRIC} was at best {best:.4f}, and no better in the {patience} after it "
        f"(evaluation.patience={patience})"
    )


def has_stopped(lines: list[dict[str, Any]]) -> bool:
    """Whether the last line says that the run has ended early."""
    return bool(lines) and bool(lines[-1].get("stopped"))

"""The sweep that a run lies in: the same federation at other budgets, from `sweep.json`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from simulations.report.metrics_file import IntervalRecord

SWEEP_FILE = "sweep.json"
BUDGET_KEYS = frozenset({"privacy.target_epsilon", "privacy.mode"})


class _Part(BaseModel):
    """What this page needs of a part of `sweep.json`; its other keys are not its business."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SweptRow(_Part):
    """A row beside the model, over users and seeds."""

    name: str
    kind: str
    hr_10: IntervalRecord
    ndcg_10: IntervalRecord


class SweptResult(_Part):
    """The model of a point with its floors; intervals are over users and seeds."""

    epsilon: float | None
    seeds: int
    hr_10: IntervalRecord
    ndcg_10: IntervalRecord
    floors: tuple[SweptRow, ...] = ()
    baselines: tuple[SweptRow, ...] = ()


class SweptRun(_Part):
    """Where a run of a point is, inside the sweep's folder."""

    path: str


class SweptPoint(_Part):
    """One point; `result` is null where nothing of it is finished."""

    settings: dict[str, str]
    insecure_seeded_noise: bool = False
    runs: tuple[SweptRun, ...]
    result: SweptResult | None = None

    def other_settings(self) -> dict[str, str]:
        """What it was swept over besides its budget."""
        return {key: value for key, value in self.settings.items() if key not in BUDGET_KEYS}


class SweepBeside(_Part):
    """`sweep.json`, as far as it is drawn."""

    points: tuple[SweptPoint, ...]


def sweep_file(run: Path) -> Path | None:
    """Where the results of the sweep are that the run folder lies in, if it lies in one."""
    return next((p / SWEEP_FILE for p in run.resolve().parents[:3] if (p / SWEEP_FILE).is_file()),
                None)  # fmt: skip


def sibling_results(sweep: SweepBeside, run: Path, root: Path) -> list[SweptResult]:
    """The results of the run's own point and of those that differ from it in budget alone.

    Args:
        sweep: the sweep that the run lies in.
        run: the run's folder.
        root: the sweep's folder.

    Returns:
        By rising ε, ∞ last; nothing where the sweep does not know the run.
    """
    path = run.resolve().relative_to(root.resolve()).as_posix()
    own = next((p for p in sweep.points if any(r.path == path for r in p.runs)), None)
    if own is None:
        return []
    found = [
        point.result
        for point in sweep.points
        if point.other_settings() == own.other_settings() and not point.insecure_seeded_noise
        if point.result is not None
    ]
    return sorted(found, key=lambda r: float("inf") if r.epsilon is None else r.epsilon)

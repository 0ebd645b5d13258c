"""The format of `search.json`: every point of a search, on validation alone."""

from __future__ import annotations

from typing import Literal

from simulations.comparison.records import DifferenceRecord, EntryRecord
from simulations.report.metrics_file import Record
from simulations.sweeps.sweep_file import SweepRun


class SearchPoint(Record):
    """One point.

    Attributes:
        name: of its folder under ``points/``.
        label: for people.
        settings: the keys that it changes, with their values.
        is_own: whether it is the scenario with its own settings.
        epsilon: the largest that any of its runs spent; null without privacy.
        runs: one per seed.
        result: means with intervals, over the finished runs; null where there is none.
        less_best: its paired difference from the best point; null for that point.
    """

    name: str
    label: str
    settings: dict[str, str]
    is_own: bool
    epsilon: float | None = None
    runs: tuple[SweepRun, ...]
    result: EntryRecord | None = None
    less_best: DifferenceRecord | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every seed of it is finished."""
        return all(run.status == "finished" for run in self.runs)


class SearchFile(Record):
    """`search.json`.

    Attributes:
        lab_only: always true: exact metrics are no release, only a simulation has them.
        stage: what every figure is of; no test figure was computed.
        name: of the search.
        scenario: name of its scenario.
        settings: of ``[set]``.
        overrides: of ``--set``.
        grid: whether the points are all combinations, or one axis at a time.
        own: what the searched keys are in the scenario itself.
        mode: `privacy.mode`.
        target_epsilon: of each user; null without privacy.
        target_delta: at which it holds.
        unit: the privacy unit.
        seeds: runs of each point.
        bootstrap_resamples: of each interval.
        note, targets: what the search's file says of itself.
        points: by NDCG@10, the best first; those without a result last.
        best: name of the complete point with the highest mean NDCG@10; null where none is.
        best_less_own: what the best point gains over the scenario's own settings; null where
            these are the best, or no complete point.
    """

    schema_version: Literal[1] = 1
    lab_only: Literal[True] = True
    stage: Literal["validation"] = "validation"
    name: str
    scenario: str
    settings: dict[str, str]
    overrides: tuple[str, ...] = ()
    grid: bool = False
    own: dict[str, str]
    mode: Literal["none", "local", "distributed", "central"]
    target_epsilon: float | None
    target_delta: float
    unit: str
    seeds: int
    bootstrap_resamples: int
    note: str = ""
    targets: str = ""
    points: tuple[SearchPoint, ...]
    best: str | None = None
    best_less_own: DifferenceRecord | None = None

    @property
    def best_point(self) -> SearchPoint | None:
        """The point that `best` names."""
        return next((point for point in self.points if point.name == self.best), None)

"""The format of `sweep.json`: every point of a sweep, its runs and its results."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulations.comparison.records import EntryRecord
from simulations.report.fairness_records import ImpactRecord
from simulations.report.metrics_file import Record


class SweepRun(Record):
    """One run.

    Attributes:
        seed: its number among the point's seeds, from 0.
        path: its run folder, inside the sweep's.
        status: `finished`, `failed`, or `missing` where it was not run yet.
        epsilon: that it spent, by its records; null without privacy.
        seconds: wall-clock time.
        fault: what was wrong, in one line.
    """

    seed: int
    path: str
    status: Literal["finished", "failed", "missing"]
    epsilon: float | None = None
    seconds: float | None = None
    fault: str = ""


class SweepPoint(Record):
    """One point.

    Attributes:
        name: of its folder under ``points/``.
        settings: the swept keys and their values, as they were written.
        differs: the other keys in which it differs from the sweep's first point, because of a
            scenario's ``[[budget]]`` tables.
        mode: `privacy.mode`.
        target_epsilon: of each user; null without privacy.
        target_delta: at which it holds.
        epsilon: the largest that any of its runs spent.
        unit: the privacy unit.
        insecure_seeded_noise: whether its noise came from a seed, which voids the guarantee.
        runs: one per seed.
        result: over the finished runs; null where there is none, or without the lab.
    """

    name: str
    settings: dict[str, str]
    differs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    mode: Literal["none", "local", "distributed", "central"]
    target_epsilon: float | None
    target_delta: float
    epsilon: float | None
    unit: str
    insecure_seeded_noise: bool = False
    runs: tuple[SweepRun, ...]
    result: EntryRecord | None = None


class SweepFile(Record):
    """`sweep.json`.

    Attributes:
        lab_only: always true: exact metrics are no release, only a simulation has them.
        scenario: name of the scenario.
        overrides: of ``--set``.
        swept: the keys and their values, as they were asked for.
        seeds: runs of each point.
        bootstrap_resamples: of each interval.
        tuned: what was chosen on non-private validation, one line each; not covered by ε.
        points: in the order of the product.
        impact: what groups lost to privacy, for each private point and attribute.
    """

    schema_version: Literal[1] = 1
    lab_only: Literal[True] = True
    scenario: str
    overrides: tuple[str, ...] = ()
    swept: dict[str, tuple[str, ...]]
    seeds: int
    bootstrap_resamples: int
    tuned: tuple[str, ...] = ()
    points: tuple[SweepPoint, ...]
    impact: tuple[ImpactRecord, ...] = ()

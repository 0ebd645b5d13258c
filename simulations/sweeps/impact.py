"""DP's disparate impact across a sweep: what every group loses at each ε of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.run_folder import RunFolder
from simulations.companions import COMPANIONS_FOLDER
from simulations.datasets import load_dataset
from simulations.fairness.companion_tables import LAST_FIFTH
from simulations.fairness.run_impact import impact_of_runs
from simulations.report.fairness_records import ImpactRecord
from simulations.sweeps.sweep_file import SweepFile, SweepPoint
from simulations.sweeps.sweep_folder import SweepFolder


def with_impact(folder: SweepFolder, found: SweepFile) -> SweepFile:
    """Add the disparate impact at each ε, where the sweep has what it takes.

    It takes a point without privacy that differs from a private one in `privacy.*` alone, and
    runs on the `last_fifth` split, or with companions on it (`evaluation.companions`).

    Args:
        folder: the sweep's.
        found: its points.

    Returns:
        The same, with a record for every private point and attribute.
    """
    pairs = [
        (private, without)
        for private in found.points
        for without in found.points
        if private.mode != "none" and without.mode == "none" and _other(private) == _other(without)
    ]
    records: list[ImpactRecord] = []
    for private, without in pairs:
        mine, theirs = (_judged(folder, point) for point in (private, without))
        if mine and theirs:
            records += _impact(private, without, mine, theirs, found.bootstrap_resamples)
    return found.model_copy(update={"impact": tuple(records)})


def _impact(
    private: SweepPoint,
    without: SweepPoint,
    mine: Sequence[RunFolder],
    theirs: Sequence[RunFolder],
    resamples: int,
) -> list[ImpactRecord]:
    dataset = load_dataset(mine[0].read_config().data)
    records = impact_of_runs(theirs, mine, dataset, resamples=resamples)
    names = {"row": private.name, "reference": without.name}
    return [record.model_copy(update=names) for record in records]


def _other(point: SweepPoint) -> Mapping[str, str]:
    """What was swept besides privacy."""
    return {k: v for k, v in point.settings.items() if not k.startswith("privacy.")}


def _judged(folder: SweepFolder, point: SweepPoint) -> list[RunFolder]:
    """The point's finished runs that have a `last_fifth` model."""
    runs = [RunFolder(folder.path / run.path) for run in point.runs if run.status == "finished"]
    return [
        run
        for run in runs
        if run.read_config().data.split == LAST_FIFTH
        or (run.path / COMPANIONS_FOLDER / LAST_FIFTH / "adapter").is_dir()
    ]

"""From a sweep's run folders to `sweep.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from common.atomic_files import read_json
from common.config import RunConfig
from common.errors import RunFolderError
from common.run_folder import RunFolder
from common.schema_version import check_version
from simulations.comparison.comparing import entry_record
from simulations.comparison.entries import read_entry
from simulations.comparison.per_user_file import PER_USER_FILE
from simulations.comparison.records import EntryRecord
from simulations.report.metrics_file import MetricsFile
from simulations.sweeps.planning import EPSILON_KEY, PlannedRun
from simulations.sweeps.question import SEED_KEYS, Question
from simulations.sweeps.run_pool import RunEnd
from simulations.sweeps.runs_folder import RunsFolder
from simulations.sweeps.sweep_file import SweepFile, SweepPoint, SweepRun
from simulations.sweeps.sweep_folder import RESULT_FILE, SweepFolder


def summarise(
    folder: SweepFolder,
    question: Question,
    runs: Sequence[PlannedRun],
    ends: Mapping[str, RunEnd],
) -> SweepFile:
    """Compute what a sweep found.

    Args:
        folder: the sweep's.
        question: what was asked.
        runs: all of it, in order.
        ends: how the runs that were just made ended, by their path.
    """
    first = runs[0].config
    points = [
        _point(folder, list(group), first, ends) for _, group in groupby(runs, lambda r: r.point)
    ]
    return SweepFile(
        scenario=question.scenario,
        overrides=question.overrides,
        swept={d.key: d.values for d in question.dimensions},
        seeds=question.seeds,
        bootstrap_resamples=first.evaluation.bootstrap_resamples,
        tuned=_tuned(folder, points),
        points=tuple(points),
    )


def read_sweep(path: Path) -> SweepFile:
    """Return the content of a sweep's `sweep.json`.

    Raises:
        RunFolderError: it is missing, damaged or of another version.
    """
    file = path / RESULT_FILE
    if not file.is_file():
        raise RunFolderError(
            f"{path} has no {RESULT_FILE}: the sweep is not over; run it again with --resume"
        )
    content = read_json(file)
    check_version(file, content)
    try:
        return SweepFile.model_validate(content)
    except ValueError as error:
        raise RunFolderError(
            f"{file} is damaged: {str(error).splitlines()[0]}; run the sweep again with --resume"
        ) from error


def point_label(settings: Mapping[str, str]) -> str:
    """Return a point's settings for people: the keys without their section."""
    words = {key: "ε" if key == EPSILON_KEY else key.partition(".")[2] for key in settings}
    return ", ".join(f"{words[key]}={value}" for key, value in settings.items()) or "all"


def run_record(folder: RunsFolder, run: PlannedRun, end: RunEnd | None) -> SweepRun:
    """Return what became of one run.

    Args:
        folder: of all runs.
        run: one of them.
        end: how it ended, if it was made just now.
    """
    outcome = folder.outcome(run)
    if outcome is not None:
        return SweepRun(
            seed=run.seed,
            path=run.path,
            status="finished",
            epsilon=outcome["epsilon"],
            seconds=outcome["seconds"],
        )
    if end is None:
        return SweepRun(seed=run.seed, path=run.path, status="missing")
    return SweepRun(seed=run.seed, path=run.path, status="failed", fault=end.fault)


def _point(
    folder: SweepFolder, runs: Sequence[PlannedRun], first: RunConfig, ends: Mapping[str, RunEnd]
) -> SweepPoint:
    config = runs[0].config
    records = [run_record(folder, run, ends.get(run.path)) for run in runs]
    spent = [record.epsilon for record in records if record.epsilon is not None]
    return SweepPoint(
        name=runs[0].point,
        settings=dict(runs[0].settings),
        differs=_differs(config, first, runs[0].settings),
        mode=config.privacy.mode,
        target_epsilon=config.privacy.target_epsilon if config.is_private else None,
        target_delta=config.privacy.target_delta,
        epsilon=max(spent, default=None),
        unit=config.privacy.unit,
        insecure_seeded_noise=config.privacy.insecure_seeded_noise,
        runs=tuple(records),
        result=_result(folder, runs, records),
    )


def _result(
    folder: SweepFolder, runs: Sequence[PlannedRun], records: Sequence[SweepRun]
) -> EntryRecord | None:
    """Over the finished runs that the lab evaluated."""
    folders = [
        folder.path / record.path
        for record in records
        if record.status == "finished" and (folder.path / record.path / PER_USER_FILE).is_file()
    ]
    if not folders:
        return None
    entry = read_entry(point_label(runs[0].settings), folders)
    return entry_record(entry, resamples=runs[0].config.evaluation.bootstrap_resamples)


def _tuned(folder: SweepFolder, points: Sequence[SweepPoint]) -> tuple[str, ...]:
    """What the runs say was tuned, each line once."""
    lines: dict[str, None] = {}
    for point in points:
        if point.result is not None:
            run = next(run for run in point.runs if run.status == "finished")
            metrics = RunFolder(folder.path / run.path).read_json("metrics.json")
            lines |= dict.fromkeys(MetricsFile.model_validate(metrics).tuned)
    return tuple(lines)


def _differs(
    config: RunConfig, first: RunConfig, settings: Mapping[str, str]
) -> dict[str, bool | int | float | str]:
    before = first.to_flat()
    return {
        key: value
        for key, value in config.to_flat().items()
        if value != before[key]
        and key not in settings
        and key not in SEED_KEYS
        and key != "privacy.mode"
    }

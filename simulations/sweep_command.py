"""``fedrec simulate --sweep``: many runs of one scenario, their table and their page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from common.atomic_files import file_errors, write_json, write_text
from common.errors import ConfigError
from simulations.run_paths import new_run_path
from simulations.scenario_files import find_scenario
from simulations.sweeps.planning import PlannedRun, plan
from simulations.sweeps.question import Question, read_dimensions
from simulations.sweeps.run_pool import RunEnd
from simulations.sweeps.sweep_folder import RESULT_FILE, SweepFolder
from simulations.sweeps.unfinished import raise_for_failed, run_unfinished
from simulations.tracking import Tracking

if TYPE_CHECKING:
    from simulations.sweeps.sweep_file import SweepFile

PAGE_FILE = "sweep.html"
DEFAULT_SCENARIO = "demo"


@dataclass(frozen=True)
class SweepOptions:
    """What the command line says beyond scenario and ``--set``.

    Attributes:
        sweep: ``section.key=V1,V2,…`` each.
        seeds: runs of each point; None: 1.
        jobs: processes at a time; None: 1.
        resume: whether the sweep of `run` is taken up as it was asked.
        run: name or path.
        tracking: where each run is tracked too, if anywhere.
    """

    sweep: Sequence[str] = ()
    seeds: int | None = None
    jobs: int | None = None
    resume: bool = False
    run: str | None = None
    tracking: Tracking | None = None

    @property
    def is_sweep(self) -> bool:
        """Whether a sweep is asked for at all, and no single run."""
        return self.is_grid or self.resume

    @property
    def is_grid(self) -> bool:
        """Whether several settings or seeds are asked for."""
        return bool(self.sweep) or self.seeds is not None


def sweep(
    scenario: str | None,
    overrides: Sequence[str],
    options: SweepOptions,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a sweep, or what is left of it, and print its table.

    Raises:
        ConfigError: the question has faults; all are told at once.
        RunFolderError: the folder holds something else.
    """
    folder, question, path = _asked(scenario, overrides, options)
    runs = plan(question, path)
    with file_errors("read", path):
        text = path.read_text(encoding="utf-8")
    with folder.locked():
        folder.begin(question, text, runs)
        ends = _run(folder, runs, options, quiet=quiet)
        found = _finish(folder, question, runs, ends)
    _print(folder, found, as_json=as_json)
    raise_for_failed(ends.values())


def _asked(
    scenario: str | None, overrides: Sequence[str], options: SweepOptions
) -> tuple[SweepFolder, Question, Path]:
    """The sweep's folder, its question and the file of its scenario."""
    if options.resume:
        if scenario or overrides or options.sweep or options.seeds is not None or not options.run:
            raise ConfigError(
                ["--resume takes up a sweep as it was asked: give --run NAME, and no scenario, "
                 "--set, --sweep or --seeds"]
            )  # fmt: skip
        folder = SweepFolder(new_run_path(options.run, ""))
        return folder, folder.read_question(), folder.scenario
    path = find_scenario(scenario or DEFAULT_SCENARIO)
    faults: list[str] = []
    dimensions = read_dimensions(options.sweep, faults)
    if faults:
        raise ConfigError(faults)
    question = Question(path.stem, tuple(overrides), tuple(dimensions), options.seeds or 1)
    return SweepFolder(new_run_path(options.run, f"{path.stem}-sweep")), question, path


def _run(
    folder: SweepFolder, runs: Sequence[PlannedRun], options: SweepOptions, *, quiet: bool
) -> dict[str, RunEnd]:
    told: list[str] = []
    if options.tracking is not None:
        tracking = options.tracking.of_sweep(folder.path)
        tracking.prepare(folder.path)
        told = tracking.options()
    return run_unfinished(folder, runs, jobs=options.jobs or 1, quiet=quiet, options=told)


def _finish(
    folder: SweepFolder,
    question: Question,
    runs: Sequence[PlannedRun],
    ends: Mapping[str, RunEnd],
) -> SweepFile:
    """Write ``sweep.json`` and ``sweep.html``; each run's report then shows the other budgets."""
    from simulations.report import build_report
    from simulations.sweeps.impact import with_impact
    from simulations.sweeps.result_view import sweep_page
    from simulations.sweeps.summary import summarise

    found = with_impact(folder, summarise(folder, question, runs, ends))
    write_json(folder.path / RESULT_FILE, found.model_dump(mode="json"))
    write_text(folder.path / PAGE_FILE, sweep_page(folder.path.name, found))
    for run in runs if len(found.points) > 1 else ():
        if folder.outcome(run) is not None:
            build_report(folder.run_path(run))
    return found


def _print(folder: SweepFolder, found: SweepFile, *, as_json: bool) -> None:
    from simulations.sweeps.result_view import show_sweep

    page = folder.path / PAGE_FILE
    if as_json:
        content = {"run_folder": str(folder.path), "report": str(page)}
        content |= found.model_dump(mode="json")
        print(json.dumps(content, ensure_ascii=False, allow_nan=False))
    else:
        show_sweep(Console(highlight=False), found)
        print(f"page:  {page}")

"""From what a user types as ``RUN`` to a run's folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from common.errors import RunFolderError
from common.run_folder import CONFIG_FILE, RunFolder, new_run_name
from simulations.sweeps.planning import POINTS_FOLDER
from simulations.sweeps.runs_folder import OUTCOME_FILE

RUNS_FOLDER = Path("runs")


def new_run_path(run: str | None, scenario: str) -> Path:
    """Return where a new run goes: a path as it is, a plain name under ``runs/``.

    Args:
        run: name or path; None or empty: a fresh name made from `scenario`.
        scenario: name of the scenario.
    """
    if not run:
        return RUNS_FOLDER / new_run_name(scenario)
    is_plain_name = os.sep not in run and run not in (".", "..")
    return RUNS_FOLDER / run if is_plain_name else Path(run)


def find_run(run: str) -> RunFolder:
    """Open the run that `run` names: a run under ``runs/``, or the path of a run.

    Raises:
        RunFolderError: there is no such run.
    """
    for path in (RUNS_FOLDER / run, Path(run)):
        if (path / CONFIG_FILE).is_file():
            return RunFolder.open(path)
    if Path(run).exists():
        return RunFolder.open(Path(run))
    names = [path.parent.name for path in RUNS_FOLDER.glob(f"*/{CONFIG_FILE}")]
    close = difflib.get_close_matches(run, names, n=1, cutoff=0.5)
    remedy = f"did you mean {close[0]}?" if close else "check its name or give its path"
    raise RunFolderError(f"there is no run {run!r} here or under {RUNS_FOLDER}/; {remedy}")


def find_compared(runs: Sequence[str]) -> dict[str, list[Path]]:
    """Return the run folders that are meant, by a label: one each, or one per seed of a point.

    Args:
        runs: names under ``runs/`` or paths, of runs, of sweeps, or of a sweep's points.

    Raises:
        RunFolderError: one is none of these, or is meant twice.
    """
    found: dict[str, list[Path]] = {}
    for run in runs:
        for label, folders in _compared(run).items():
            if label in found:
                raise RunFolderError(f"{label} is named twice; leave it out once")
            found[label] = folders
    return found


def _compared(run: str) -> dict[str, list[Path]]:
    for path in (RUNS_FOLDER / run, Path(run)):
        if (path / POINTS_FOLDER).is_dir():
            points = sorted((path / POINTS_FOLDER).iterdir())
            found = {f"{path.name}/{point.name}": _finished(point) for point in points}
            finished = {label: folders for label, folders in found.items() if folders}
            if not finished:
                raise RunFolderError(
                    f"{path} has no finished run; go on with fedrec simulate --resume --run {path}"
                )
            return finished
        if path.parent.name == POINTS_FOLDER and path.is_dir() and _finished(path):
            return {f"{path.parent.parent.name}/{path.name}": _finished(path)}
    path = find_run(run).path
    return {run if (RUNS_FOLDER / run) == path else path.name: [path]}


def _finished(point: Path) -> list[Path]:
    """The finished runs of a sweep's point, by seed."""
    done = [path.parent for path in point.glob(f"seed-*/{OUTCOME_FILE}")]
    plain = [path for path in done if path.name.removeprefix("seed-").isdigit()]
    return sorted(plain, key=lambda path: int(path.name.removeprefix("seed-")))

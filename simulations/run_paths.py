"""From what a user types as ``RUN`` to a run's folder."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from common.errors import RunFolderError
from common.run_folder import CONFIG_FILE, RunFolder, new_run_name

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

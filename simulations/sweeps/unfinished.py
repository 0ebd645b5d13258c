"""The unfinished runs of a folder of many: made now, several at a time, under one watcher."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import typer

from common.command_line import EXIT_INTERRUPTED, stderr_console
from common.errors import FedrecError
from simulations.sweeps.planning import PlannedRun
from simulations.sweeps.run_pool import RUN_COMMAND, RunEnd, RunPool
from simulations.sweeps.runs_folder import RunsFolder


def run_unfinished(
    folder: RunsFolder,
    runs: Sequence[PlannedRun],
    *,
    jobs: int,
    quiet: bool,
    command: Sequence[str] = RUN_COMMAND,
    options: Sequence[str] = (),
) -> dict[str, RunEnd]:
    """Make the runs that are not finished, and return how each ended, by its path.

    Args:
        folder: of all runs; this process holds its lock.
        runs: all of them, also those that are finished.
        jobs: processes at a time.
        quiet: whether to show no progress.
        command: what runs a run; its folder is the last argument.
        options: further arguments of every run.

    Raises:
        typer.Exit: it was interrupted; one line on stderr says how to go on.
    """
    from simulations.sweeps.sweep_progress import sweep_watcher

    left = [run for run in runs if folder.outcome(run) is None]
    with sweep_watcher(stderr_console(), runs=len(left), quiet=quiet) as watcher:
        pool = RunPool(folder, watcher, jobs=jobs, command=command, options=options)
        try:
            return pool.run(left)
        except KeyboardInterrupt:
            done = sum(folder.outcome(run) is not None for run in runs)
    print(
        f"stopped; {done} of {len(runs)} runs are finished in {folder.path}; go on with "
        f"{folder.RESUME} {folder.path}",
        file=sys.stderr,
    )
    raise typer.Exit(EXIT_INTERRUPTED)


def raise_for_failed(ends: Iterable[RunEnd]) -> None:
    """End the command with a code of its own where a run failed.

    Raises:
        typer.Exit: with 2 where every fault can be corrected, else 1.
    """
    if ends_badly := [end.exit_code for end in ends if end.exit_code]:
        is_correctable = set(ends_badly) == {FedrecError.exit_code}
        raise typer.Exit(FedrecError.exit_code if is_correctable else 1)

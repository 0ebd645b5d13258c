"""Progress of a sweep on the terminal: bars for people, plain lines for logs, on stderr."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from simulations.progress import progress_bars
from simulations.sweeps.planning import PlannedRun
from simulations.sweeps.run_pool import RunEnd, SweepWatcher


@contextmanager
def sweep_watcher(console: Console, *, runs: int, quiet: bool) -> Iterator[SweepWatcher]:
    """Open the watcher that fits: silent, bars on a terminal, or plain lines in a log.

    Args:
        console: where to show it, on stderr.
        runs: number of runs that are still to be done.
        quiet: whether to show nothing.
    """
    if quiet:
        yield SilentWatcher()
    elif console.is_terminal:
        with progress_bars(console) as bars:
            yield BarWatcher(bars, runs)
    else:
        yield LineWatcher(console, runs)


def run_label(run: PlannedRun) -> str:
    """Return a run's name for people."""
    return f"{run.point} seed {run.seed}"


class SilentWatcher:
    """Hears everything and shows nothing."""

    def run_began(self, run: PlannedRun) -> None:
        """Show nothing."""

    def run_told(self, run: PlannedRun, event: Mapping[str, Any]) -> None:
        """Show nothing."""

    def run_ended(self, run: PlannedRun, end: RunEnd) -> None:
        """Show nothing."""


class BarWatcher:
    """One bar for the sweep, and one for each run that is under way."""

    def __init__(self, bars: Progress, runs: int) -> None:
        self._bars = bars
        self._all = bars.add_task("runs", total=runs)
        self._tasks: dict[str, TaskID] = {}

    def run_began(self, run: PlannedRun) -> None:
        """Show the run's bar, empty."""
        self._tasks[run.path] = self._bars.add_task(run_label(run), total=None)

    def run_told(self, run: PlannedRun, event: Mapping[str, Any]) -> None:
        """Advance the run's bar, and say what it does."""
        task = self._tasks[run.path]
        if "rounds" in event:
            self._bars.update(task, total=int(event["rounds"]))
        if event.get("round_finished"):
            self._bars.advance(task)
        if event.get("message"):
            self._bars.update(task, description=f"{run_label(run)}: {event['message']}")

    def run_ended(self, run: PlannedRun, end: RunEnd) -> None:
        """Take the run's bar away and advance the sweep's."""
        self._bars.remove_task(self._tasks.pop(run.path))
        self._bars.advance(self._all)
        if end.fault:
            self._bars.console.print(
                f"{run_label(run)} failed: {end.fault}", markup=False, highlight=False
            )


class LineWatcher:
    """One line per run, with the time left, for logs and pipes."""

    def __init__(self, console: Console, runs: int) -> None:
        self._console = console
        self._runs = runs
        self._ended = 0
        self._started = time.monotonic()
        self._guard = threading.Lock()

    def run_began(self, run: PlannedRun) -> None:
        """Print nothing: the run has its line when it is over."""

    def run_told(self, run: PlannedRun, event: Mapping[str, Any]) -> None:
        """Print nothing: the run has its line when it is over."""

    def run_ended(self, run: PlannedRun, end: RunEnd) -> None:
        """Print the run's line."""
        with self._guard:
            self._ended += 1
            seconds = time.monotonic() - self._started
            left = seconds / self._ended * (self._runs - self._ended)
            how = f"failed: {end.fault}" if end.fault else "finished"
            self._console.print(
                f"run {self._ended} of {self._runs}, {run_label(run)}, {how}; "
                f"{seconds:.0f} s, about {left:.0f} s left",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

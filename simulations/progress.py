"""Progress of a run on the terminal: bars for people, plain lines for logs, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from common.progress import ProgressListener, SilentListener


@contextmanager
def progress_listener(
    console: Console, *, sites: int, local_steps: int, quiet: bool
) -> Iterator[ProgressListener]:
    """Open the listener that fits: silent, bars on a terminal, or plain lines in a log.

    Args:
        console: where to show it, on stderr.
        sites: number of sites that are asked in each round.
        local_steps: steps of one site in one round.
        quiet: whether to show nothing.
    """
    if quiet:
        yield SilentListener()
    elif console.is_terminal:
        with progress_bars(console) as bars:
            yield BarListener(bars, sites=sites, local_steps=local_steps)
    else:
        yield LineListener(console)


class BarListener:
    """Two bars: server rounds, and steps of the sites; both with the time left."""

    def __init__(self, bars: Progress, *, sites: int, local_steps: int) -> None:
        self._bars = bars
        self._sites = sites
        self._local_steps = local_steps
        self._total_rounds = 0
        self._rounds: TaskID | None = None
        self._steps: TaskID | None = None

    def run_started(self, total_rounds: int) -> None:
        """Show both bars, empty."""
        self._total_rounds = total_rounds
        steps = total_rounds * self._sites * self._local_steps
        self._rounds = self._bars.add_task("rounds", total=total_rounds)
        self._steps = self._bars.add_task("steps", total=steps)

    def round_started(self, server_round: int) -> None:
        """Say which round runs."""
        if self._rounds is not None:
            description = f"round {server_round} of {self._total_rounds}"
            self._bars.update(self._rounds, description=description)

    def site_finished(self, server_round: int, site: str) -> None:
        """Advance the steps by those of one site."""
        if self._steps is not None:
            self._bars.advance(self._steps, self._local_steps)

    def round_finished(self, record: Mapping[str, object]) -> None:
        """Advance the rounds; the steps of sites that did not answer are passed over."""
        if self._rounds is None or self._steps is None:
            return
        self._bars.advance(self._rounds)
        done = self._bars.tasks[self._rounds].completed
        self._bars.update(self._steps, completed=done * self._sites * self._local_steps)
        findings = round_findings(record)
        if findings:
            self.message(f"round {int(done)}: {findings}")

    def message(self, text: str) -> None:
        """Print `text` above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)


class LineListener:
    """One line per round, with the time left, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total_rounds = 0
        self._finished = 0
        self._started = time.monotonic()

    def run_started(self, total_rounds: int) -> None:
        """Remember the number of rounds and start the clock."""
        self._total_rounds = total_rounds
        self._started = time.monotonic()

    def round_started(self, server_round: int) -> None:
        """Show nothing: the round has its line when it is over."""

    def site_finished(self, server_round: int, site: str) -> None:
        """Show nothing: the round has its line when it is over."""

    def round_finished(self, record: Mapping[str, object]) -> None:
        """Print the round's line."""
        self._finished += 1
        seconds = time.monotonic() - self._started
        findings = round_findings(record)
        left = seconds / self._finished * max(0, self._total_rounds - self._finished)
        self.message(
            f"round {self._finished} of {self._total_rounds} finished after {seconds:.0f} s, "
            f"about {left:.0f} s left{findings and f'; {findings}'}"
        )

    def message(self, text: str) -> None:
        """Print `text` as a line of its own."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def round_findings(record: Mapping[str, object]) -> str:
    """Return in words what the line of ``rounds.jsonl`` holds beyond its being over."""
    findings = []
    sites = record.get("sites")
    absent = [
        f"{site.get('site')} {str(site.get('status')).replace('_', '-')}"
        for site in (sites if isinstance(sites, Sequence) else ())
        if isinstance(site, Mapping) and site.get("status") != "ok"
    ]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        findings.append(f"left out: {', '.join(absent[:3])}{more}")
    validation = record.get("validation")
    if isinstance(validation, Mapping) and "hr_10" in validation and "ndcg_10" in validation:
        findings.append(
            f"validation HR@10 {validation['hr_10']:.3f}, NDCG@10 {validation['ndcg_10']:.3f}"
        )
    return "; ".join(findings)


def progress_bars(console: Console) -> Progress:
    """Return bars with a count, the time passed and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )

"""What a sweep says at its end: a table for the terminal, and a page."""

from __future__ import annotations

from rich.console import Console

from simulations.comparison.page import comparison_page
from simulations.comparison.records import EntryRecord
from simulations.comparison.result_table import entries_table, floors_table
from simulations.report.number_text import epsilon_text
from simulations.sweeps.sweep_file import SweepFile


def show_sweep(console: Console, found: SweepFile) -> None:
    """Print the models of all points beside their floors, and what failed."""
    entries = entries_of(found)
    if entries:
        for table in (entries_table(entries), floors_table(entries)):
            if table is not None:
                console.print(table)
    for line in [*point_lines(found), *warnings_of(found)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def sweep_page(name: str, found: SweepFile) -> str:
    """Render ``sweep.html``.

    Args:
        name: of the sweep.
        found: what it came to.
    """
    asked = "; ".join(f"{key} = {', '.join(values)}" for key, values in found.swept.items())
    seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
    return comparison_page(
        name,
        f"fedrec sweep of the scenario {found.scenario}: {asked or 'one point'}; {seeds} each",
        entries_of(found),
        resamples=found.bootstrap_resamples,
        warnings=warnings_of(found),
    )


def entries_of(found: SweepFile) -> list[EntryRecord]:
    """Return the results of all points that have any."""
    return [point.result for point in found.points if point.result is not None]


def point_lines(found: SweepFile) -> list[str]:
    """Return a line for each point that the lab did not evaluate."""
    lines = []
    for point in found.points:
        finished = sum(run.status == "finished" for run in point.runs)
        if point.result is None and finished:
            spent = "∞" if point.mode == "none" else epsilon_text(point.epsilon)
            lines.append(f"{point.name}: {finished} runs finished, ε = {spent}, not evaluated")
    return lines


def warnings_of(found: SweepFile) -> list[str]:
    """Return what a reader must see: failed rows, failed runs, seeded noise, differing keys."""
    lines = []
    for point in found.points:
        if point.result is not None and point.result.failed_against:
            lines.append(f"FAILED: {point.name} is under {', '.join(point.result.failed_against)}")
        if point.insecure_seeded_noise:
            lines.append(f"{point.name}: its noise came from a seed, so it has no guarantee")
        lines += [
            f"{point.name} seed {run.seed} {run.status}: {run.fault}"
            for run in point.runs
            if run.status == "failed"
        ]
        if point.differs:
            changed = ", ".join(f"{key}={value}" for key, value in point.differs.items())
            lines.append(f"{point.name} also has other settings than the first point: {changed}")
    return lines

"""What a sweep says at its end: a table for the terminal, and a page."""

from __future__ import annotations

import shlex

from markupsafe import Markup
from rich.console import Console

from simulations.comparison.page import comparison_page
from simulations.comparison.records import EntryRecord
from simulations.comparison.result_table import entries_table, floors_table
from simulations.report.fairness_records import ImpactGroupRecord, ImpactRecord
from simulations.report.number_text import epsilon_text, metric_text
from simulations.report.svg_charts import IntervalRow, interval_chart
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
        sections=[_impact_section(found)] if found.impact else (),
    )


def _impact_section(found: SweepFile) -> Markup:
    figures = "".join(
        f"<figure>{svg}<figcaption>By {name}.</figcaption></figure>"
        for name, svg in impact_charts(found).items()
    )
    return Markup(
        '<div class="rail"><h2>Who pays for privacy</h2><p>NDCG@10 without privacy less that with '
        f'it, by group, on the last_fifth split.</p></div><div class="body charts">{figures}</div>'
    )


def sweep_command_line(name: str, found: SweepFile) -> str:
    """Return the command that a sweep can be run again with."""
    words = ["fedrec", "simulate", found.scenario]
    words += [f"--set {shlex.quote(override)}" for override in found.overrides]
    swept = [f"{key}={','.join(values)}" for key, values in found.swept.items()]
    words += [f"--sweep {shlex.quote(dimension)}" for dimension in swept]
    return " ".join([*words, f"--seeds {found.seeds}", f"--run {shlex.quote(name)}"])


def impact_charts(found: SweepFile) -> dict[str, str]:
    """Draw, for each attribute, what every group loses at each ε; `<svg>` by attribute."""
    charts = {}
    for attribute in dict.fromkeys(record.attribute for record in found.impact):
        rows = [
            _loss_row(record, group)
            for record in found.impact
            if record.attribute == attribute
            for group in record.groups
        ]
        title = f"NDCG@10 lost to privacy by {attribute}, mean and 95% interval over users"
        charts[attribute] = interval_chart(title, f"NDCG@10 lost, by {attribute}", rows)
    return charts


def _loss_row(record: ImpactRecord, group: ImpactGroupRecord) -> IntervalRow:
    loss = group.loss
    label = f"ε={record.epsilon:g}: {group.group} (n = {group.n})"
    return IntervalRow(
        label, loss.mean, loss.low, loss.high, metric_text(loss.mean, signed=True), "a"
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

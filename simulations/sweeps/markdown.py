"""A sweep as Markdown: what was asked, its tables, and what a reader must know."""

from __future__ import annotations

from collections.abc import Sequence

from simulations.comparison.records import EntryRecord, OtherRow
from simulations.comparison.result_table import verdict
from simulations.report.fairness_records import ImpactRecord
from simulations.report.metrics_file import IntervalRecord
from simulations.report.number_text import delta_text, epsilon_text, interval_text, metric_text
from simulations.sweeps.result_view import entries_of, sweep_command_line, warnings_of
from simulations.sweeps.sweep_file import SweepFile, SweepPoint


def sweep_markdown(name: str, found: SweepFile, images: Sequence[str]) -> str:
    """Return a section of a Markdown page.

    Args:
        name: of the sweep.
        found: what it came to.
        images: Markdown of its plots.
    """
    parts = [f"## {name}", f"```console\n$ {sweep_command_line(name, found)}\n```"]
    entries = entries_of(found)
    if entries:
        parts += [_ground(found, entries[0]), _accuracy(found, entries[0])]
    floors = _floors(entries)
    if floors:
        parts += [
            "Paired differences from the private floors at the same ε and from the model's own "
            "variants, over the same users and seeds. A row under DP-Pop has failed.",
            floors,
        ]
    parts += [" ".join(images)] if images else []
    if found.impact:
        parts += [
            "What privacy takes from each group: NDCG@10 without privacy less that with it, "
            "`last_fifth` split, hardest hit first.",
            _impact(found.impact),
        ]
    remarks = [*warnings_of(found), *(f"tuned: {line}" for line in found.tuned)]
    parts += ["\n".join(f"- {line}" for line in remarks)] if remarks else []
    return "\n\n".join(parts) + "\n"


def _ground(found: SweepFile, first: EntryRecord) -> str:
    units = ", ".join(sorted({point.unit for point in found.points}))
    deltas = ", ".join(sorted({delta_text(point.target_delta) for point in found.points}))
    return (
        f"{first.dataset}, {first.stage}, all unseen items ranked, ties against the model; "
        f"{first.users} users, mean and 95% interval of a bootstrap over users and seeds "
        f"({found.bootstrap_resamples} resamples). ε per {units}, add or remove one, δ = {deltas}."
    )


def _accuracy(found: SweepFile, first: EntryRecord) -> str:
    lines = _head("point", "ε asked", "ε spent", "split", "seeds", "HR@10", "NDCG@10")
    for point in found.points:
        lines.append(_point_line(point))
        if point.result is not None:
            lines += [_variant_line(point.result, row) for row in point.result.variants]
    for row in first.baselines:
        cells = (row.name, "–", "–", first.split, "", _cell(row.hr_10), _cell(row.ndcg_10))
        lines.append(_line(*cells))
    return "\n".join(lines)


def _point_line(point: SweepPoint) -> str:
    asked = "∞" if point.target_epsilon is None else f"{point.target_epsilon:g}"
    spent = "∞" if point.mode == "none" else epsilon_text(point.epsilon)
    result = point.result
    if result is None:
        return _line(point.name, asked, spent, "–", "0", "no result", "no result")
    name = f"**FAILED** {result.label}" if result.failed_against else result.label
    cells = (str(result.seeds), _cell(result.hr_10), _cell(result.ndcg_10))
    return _line(name, asked, spent, result.split, *cells)


def _variant_line(entry: EntryRecord, row: OtherRow) -> str:
    name = f"{entry.label}: {row.name}"
    return _line(name, "", "", entry.split, "", _cell(row.hr_10), _cell(row.ndcg_10))


def _floors(entries: Sequence[EntryRecord]) -> str:
    lines = _head("point", "less", "its HR@10", "its NDCG@10", "ΔHR@10", "ΔNDCG@10", "verdict")
    empty = len(lines)
    for entry in entries:
        for floor in (*entry.floors, *entry.variants):
            is_under = floor.name in entry.failed_against
            lines.append(
                _line(
                    entry.label,
                    floor.name,
                    _cell(floor.hr_10),
                    _cell(floor.ndcg_10),
                    _cell(floor.hr_10_difference, signed=True),
                    _cell(floor.ndcg_10_difference, signed=True),
                    "**FAILED**" if is_under else verdict(floor.ndcg_10_difference),
                )
            )
    return "\n".join(lines) if len(lines) > empty else ""


def _impact(records: Sequence[ImpactRecord]) -> str:
    lines = _head("ε", "attribute", "max − min of the loss", "loss by group (users)")
    for record in records:
        groups = "; ".join(
            f"{group.group} ({group.n}) {metric_text(group.loss.mean, signed=True)}"
            for group in record.groups
        )
        lines.append(_line(f"{record.epsilon:g}", record.attribute, _cell(record.spread), groups))
    return "\n".join(lines)


def _head(*cells: str) -> list[str]:
    return [_line(*cells), _line(*["---"] * len(cells))]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(interval: IntervalRecord, *, signed: bool = False) -> str:
    mean = metric_text(interval.mean, signed=signed)
    return f"{mean} {interval_text(interval, signed=signed)}".rstrip()

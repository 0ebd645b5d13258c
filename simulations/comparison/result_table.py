"""Compared results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from simulations.comparison.records import ComparisonFile, EntryRecord
from simulations.report.metrics_file import IntervalRecord
from simulations.report.number_text import interval_text, metric_text

NOTE = "{stage}, {users} users × {seeds} seeds, mean [95% interval over both]; lab only"


def entries_table(entries: Sequence[EntryRecord]) -> Table:
    """Return a table of the models of all entries, and of the baselines of the first.

    Args:
        entries: at least one.
    """
    seeds = " or ".join(str(number) for number in sorted({entry.seeds for entry in entries}))
    first = entries[0]
    table = Table(
        "", "ε", "HR@10", "NDCG@10",
        caption=NOTE.format(stage=first.stage, users=first.users, seeds=seeds),
    )  # fmt: skip
    for entry in entries:
        label = f"{entry.label} FAILED" if entry.failed_against else entry.label
        epsilon = "∞" if entry.epsilon is None else f"{entry.epsilon:g}"
        table.add_row(label, epsilon, _cell(entry.hr_10), _cell(entry.ndcg_10))
        for floor in entry.floors:
            table.add_row(f"  {floor.name}", epsilon, _cell(floor.hr_10), _cell(floor.ndcg_10))
        for variant in entry.variants:
            table.add_row(f"  {variant.name}", "", _cell(variant.hr_10), _cell(variant.ndcg_10))
    for row in first.baselines:
        table.add_row(row.name, "–", _cell(row.hr_10), _cell(row.ndcg_10))
    return table


def floors_table(entries: Sequence[EntryRecord]) -> Table | None:
    """Return a table of the differences from floors and variants; None where there are none."""
    table = Table(
        "", "less", "ΔHR@10", "ΔNDCG@10",
        caption="the model less the other row, same users and seeds; FAILED: under DP-Pop",
    )  # fmt: skip
    for entry in entries:
        for floor in (*entry.floors, *entry.variants):
            failed = floor.name in entry.failed_against
            table.add_row(
                f"{entry.label} FAILED" if failed else entry.label,
                floor.name,
                _cell(floor.hr_10_difference, signed=True),
                _cell(floor.ndcg_10_difference, signed=True),
            )
    return table if table.row_count else None


def differences_table(found: ComparisonFile) -> Table:
    """Return a table of the paired differences from the reference."""
    table = Table(
        f"less {found.reference}", "seeds", "ΔHR@10", "ΔNDCG@10", "verdict on NDCG@10",
        caption="paired over the same users and seeds, mean [95% interval]",
    )  # fmt: skip
    for row in found.differences:
        table.add_row(
            row.first,
            str(row.seeds),
            _cell(row.hr_10, signed=True),
            _cell(row.ndcg_10, signed=True),
            verdict(row.ndcg_10),
        )
    return table


def verdict(difference: IntervalRecord) -> str:
    """Return what an interval of a difference says."""
    if difference.low is not None and difference.low > 0:
        return "above"
    if difference.high is not None and difference.high < 0:
        return "below"
    return "not distinguishable"


def _cell(interval: IntervalRecord, *, signed: bool = False) -> str:
    mean = metric_text(interval.mean, signed=signed)
    return f"{mean} {interval_text(interval, signed=signed)}".rstrip()

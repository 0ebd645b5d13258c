"""From entries to their records: means, floors, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import DataError
from common.metrics import METRIC_NAMES
from simulations.comparison.entries import Entry, SeededRow
from simulations.comparison.records import (
    ComparisonFile,
    DifferenceRecord,
    EntryRecord,
    OtherRow,
    PairedRow,
)
from simulations.evaluation.comparison import two_level_mean
from simulations.report.metrics_file import IntervalRecord, RowKind

SHOWN = ("hr_10", "ndcg_10")
FLOORS: tuple[RowKind, ...] = ("dp_popularity", "text_floor")


def entry_record(entry: Entry, *, resamples: int) -> EntryRecord:
    """Compute an entry's means over users and seeds, beside its floors and baselines.

    The model *fails* where its mean HR@10 or NDCG@10 is under that of DP-Pop at the same ε.

    Args:
        entry: with S seeds.
        resamples: of every interval.
    """
    floors = _paired(entry, FLOORS, resamples)
    ground = entry.grounds[0]
    return EntryRecord(
        label=entry.label,
        mode=entry.model.mode,
        epsilon=entry.model.epsilon,
        dataset=ground.dataset,
        split=ground.split,
        stage=ground.stage,
        users=ground.users,
        seeds=len(entry.grounds),
        floors=floors,
        failed_against=tuple(
            floor.name
            for floor in floors
            if floor.kind == "dp_popularity"
            and min(floor.hr_10_difference.mean, floor.ndcg_10_difference.mean) < 0
        ),
        variants=_paired(entry, ("ablation", "central"), resamples),
        baselines=_others(entry.of_kind("baseline"), resamples),
        **_means(entry.model, METRIC_NAMES, resamples),
    )


def compare(entries: Sequence[Entry], *, resamples: int) -> ComparisonFile:
    """Compare every entry with the first, paired over the same users and seeds.

    Args:
        entries: at least two, with labels of their own.
        resamples: of every interval.

    Raises:
        DataError: an entry shares no split with the first; the line says what differs.
    """
    reference = entries[0]
    return ComparisonFile(
        reference=reference.label,
        bootstrap_resamples=resamples,
        entries=tuple(entry_record(entry, resamples=resamples) for entry in entries),
        differences=tuple(difference(entry, reference, resamples) for entry in entries[1:]),
    )


def difference(entry: Entry, reference: Entry, resamples: int) -> DifferenceRecord:
    """Compute `entry` minus `reference` on the seeds that both have.

    Raises:
        DataError: they share none.
    """
    places = {ground: place for place, ground in enumerate(reference.grounds)}
    pairs = [(n, places[ground]) for n, ground in enumerate(entry.grounds) if ground in places]
    if not pairs:
        what = reference.grounds[0].difference(entry.grounds[0])
        raise DataError(
            f"{entry.label} cannot be compared with {reference.label}: {what}; "
            "compare runs of the same users on the same split"
        )
    mine = entry.at([first for first, _ in pairs]).model
    theirs = reference.at([second for _, second in pairs]).model
    return DifferenceRecord(
        first=entry.label,
        second=reference.label,
        seeds=len(pairs),
        **_differences(mine, theirs, resamples),
    )


def _others(rows: Sequence[SeededRow], resamples: int) -> tuple[OtherRow, ...]:
    return tuple(
        OtherRow(name=row.name, kind=row.kind, **_means(row, SHOWN, resamples)) for row in rows
    )


def _paired(entry: Entry, kinds: Sequence[RowKind], resamples: int) -> tuple[PairedRow, ...]:
    rows = []
    for row in entry.of_kind(*kinds):
        differences = _differences(entry.model, row, resamples)
        paired = PairedRow(
            name=row.name,
            kind=row.kind,
            hr_10_difference=differences["hr_10"],
            ndcg_10_difference=differences["ndcg_10"],
            **_means(row, SHOWN, resamples),
        )
        rows.append(paired)
    return tuple(rows)


def _means(row: SeededRow, names: Sequence[str], resamples: int) -> dict[str, IntervalRecord]:
    return {
        name: IntervalRecord.of(two_level_mean(row.metrics[name], resamples=resamples))
        for name in names
    }


def _differences(mine: SeededRow, theirs: SeededRow, resamples: int) -> dict[str, IntervalRecord]:
    return {
        name: IntervalRecord.of(
            two_level_mean(mine.metrics[name] - theirs.metrics[name], resamples=resamples)
        )
        for name in SHOWN
    }

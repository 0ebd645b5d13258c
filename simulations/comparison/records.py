"""The format of compared results: an entry with its floors, and paired differences."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulations.report.metrics_file import IntervalRecord, Record, RowKind


class OtherRow(Record):
    """A row beside the model: its means over users and seeds."""

    name: str
    kind: RowKind
    hr_10: IntervalRecord
    ndcg_10: IntervalRecord


class PairedRow(OtherRow):
    """Such a row (a private floor, a variant), and the model's paired difference from it."""

    hr_10_difference: IntervalRecord
    ndcg_10_difference: IntervalRecord


class EntryRecord(Record):
    """One compared entry; intervals are two-level, over users and seeds.

    Attributes:
        label: as printed.
        mode: `privacy.mode`.
        epsilon: the target ε of each user; null without privacy.
        dataset, split, stage: what was evaluated.
        users, seeds: how many.
        floors: private floors at the same ε.
        failed_against: names of DP-Pop rows that the model is under.
        variants: of this entry's own model: before training, frozen BERT, central. What is made of
            its releases is no row without privacy.
        baselines: rows without privacy, which are no model of ours.
    """

    label: str
    mode: str
    epsilon: float | None
    dataset: str
    split: str
    stage: str
    users: int
    seeds: int
    hr_10: IntervalRecord
    hr_20: IntervalRecord
    ndcg_10: IntervalRecord
    ndcg_20: IntervalRecord
    mrr: IntervalRecord
    floors: tuple[PairedRow, ...] = ()
    failed_against: tuple[str, ...] = ()
    variants: tuple[PairedRow, ...] = ()
    baselines: tuple[OtherRow, ...] = ()


class DifferenceRecord(Record):
    """Paired difference of two entries, the first minus the second, over `seeds` seeds."""

    first: str
    second: str
    seeds: int
    hr_10: IntervalRecord
    ndcg_10: IntervalRecord


class ComparisonFile(Record):
    """What `fedrec compare` found.

    Attributes:
        lab_only: always true: exact metrics are no release, only a simulation has them.
        reference: label of the entry that the others are compared with.
    """

    schema_version: Literal[1] = 1
    lab_only: Literal[True] = True
    reference: str
    bootstrap_resamples: int
    entries: tuple[EntryRecord, ...] = Field(min_length=1)
    differences: tuple[DifferenceRecord, ...] = ()

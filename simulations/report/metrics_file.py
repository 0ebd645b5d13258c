"""The format of `metrics.json`: the lab's exact evaluation of a run and its baselines."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulations.report.fairness_records import FairnessRecord
from simulations.report.interval_record import GroupRecord as GroupRecord
from simulations.report.interval_record import IntervalRecord as IntervalRecord
from simulations.report.interval_record import Record as Record

SplitName = Literal["leave_one_out", "last_fifth", "time_cut"]
RowKind = Literal["model", "ablation", "central", "baseline", "dp_popularity", "text_floor"]


class Comparison(Record):
    """Paired differences (this row minus the other) over the same users."""

    other: str
    other_kind: RowKind
    hr_10: IntervalRecord
    ndcg_10: IntervalRecord


class MetricsRow(Record):
    """One row of the results table.

    Attributes:
        name: as printed.
        kind: what the row is; `dp_popularity` and `text_floor` are the private floors.
        mode: `privacy.mode` of the row, `none` where nothing private was claimed.
        epsilon: of each user at the run's δ; null where the row makes no claim.
        users: number of users.
        hr_10 … mrr: means with 95% intervals over users.
        comparisons: a private row's paired differences from the floors.
        differences: any row's paired differences from the rows that others are read against.
        failed_against: names of DP-Pop rows that this private row is under.
        note: what a reader must know about the row.
    """

    name: str = Field(min_length=1)
    kind: RowKind
    mode: Literal["none", "local", "distributed", "central"]
    epsilon: float | None
    users: int
    hr_10: IntervalRecord
    hr_20: IntervalRecord
    ndcg_10: IntervalRecord
    ndcg_20: IntervalRecord
    mrr: IntervalRecord
    comparisons: tuple[Comparison, ...] = ()
    differences: tuple[Comparison, ...] = ()
    failed_against: tuple[str, ...] = ()
    note: str = ""


class GroupsRecord(Record):
    """Utility of one row of the table by one attribute, best group first."""

    row: str
    attribute: str
    groups: tuple[GroupRecord, ...]
    gap: IntervalRecord
    ratio: float | None
    worst_group: str
    user_gini: float


class SampledRow(Record):
    """One row among sampled negatives."""

    name: str
    kind: RowKind
    hr_10: IntervalRecord
    ndcg_10: IntervalRecord


class SampledRecord(Record):
    """The protocol of most papers, `label` says what for; `note` what published code leaks."""

    label: Literal["comparability only"] = "comparability only"
    negatives: int
    draws: int
    note: str
    rows: tuple[SampledRow, ...]


class TimeCutRecord(Record):
    """The robustness table: the run and its baselines on a global time cut.

    Attributes:
        validation_from: unix seconds; what is older trains.
        test_from: unix seconds; what is not older is test.
        users: with a history and a target.
        left_out: users without one of them.
        rows: the model first.
    """

    validation_from: int
    test_from: int
    users: int
    left_out: int
    rows: tuple[MetricsRow, ...]


class ImpressionsRow(Record):
    """One row's metrics of impressions: means over impressions, intervals over users.

    Attributes:
        auc, mrr, ndcg_5, ndcg_10: as MIND defines them.
        pooled_auc: over all items shown, whoever saw them.
        log_loss: of click probabilities, calibrated on validation; null without validation.
    """

    name: str
    auc: IntervalRecord
    mrr: IntervalRecord
    ndcg_5: IntervalRecord
    ndcg_10: IntervalRecord
    pooled_auc: float
    log_loss: float | None


class ImpressionsRecord(Record):
    """What was shown and clicked in the test part; the model first.

    Attributes:
        users: with such impressions.
        impressions: with a click and something else.
        left_out: of one kind only; they count in `pooled_auc` and `log_loss`.
        base_log_loss: of validation's share of clicks.
    """

    users: int
    impressions: int
    left_out: int
    base_log_loss: float | None
    rows: tuple[ImpressionsRow, ...]


class RatingsRow(Record):
    """Errors of one row's ratings of the held-out items; intervals over users."""

    name: str
    rmse: IntervalRecord
    mae: IntervalRecord


class RatingsRecord(Record):
    """How well held-out ratings are told, by objective `click_rating`; the model first.

    Attributes:
        users: with a history and a held-out item.
        ratings: held out, of all of them.
        rows: the model, and two means of training ratings: exact counts, without privacy.
        rmse_less_item_mean: the model's RMSE less that of the items' means; below zero is better.
    """

    users: int
    ratings: int
    rows: tuple[RatingsRow, ...]
    rmse_less_item_mean: IntervalRecord


class CompanionRecord(Record):
    """What came of a companion run.

    Attributes:
        name: as in `evaluation.companions`.
        row: name of its row; of `time_cut` the title of its table.
        status: `not_needed` where the run itself is what the companion would be.
        reason: why it was not run, or what failed.
        seconds: wall-clock time of training and evaluation.
    """

    name: str
    row: str
    status: Literal["run", "not_run", "not_needed", "failed"]
    reason: str = ""
    seconds: float | None = None


class MetricsFile(Record):
    """`metrics.json`.

    Attributes:
        lab_only: always true: exact metrics are no release, only a simulation has them.
        dataset, split, stage: what was evaluated.
        groups_split: split of the run whose utilities the groups show.
        fairness: the fairness tables, of a `last_fifth` run or companion; null without one.
        sampled: the same rows among sampled negatives; null in older files.
        time_cut: the robustness table; null where that companion was not run.
        companions: what came of each companion; empty in older files.
        impressions: of a data set that says what was shown; null of others.
        ratings: of objective `click_rating`; null of others.
        seconds: wall-clock time of the run without its companions.
        peak_memory_bytes: of the process; null where unknown.
        device: what computed it.
        bootstrap_resamples: of each interval.
        tuned: what was chosen on non-private validation, one line each; not covered by ε.
        warnings: further warnings of the run.
    """

    schema_version: Literal[1] = 1
    lab_only: Literal[True] = True
    dataset: str
    split: SplitName
    stage: Literal["validation", "test"]
    rows: tuple[MetricsRow, ...]
    groups: tuple[GroupsRecord, ...] = ()
    groups_split: SplitName
    fairness: FairnessRecord | None = None
    sampled: SampledRecord | None = None
    time_cut: TimeCutRecord | None = None
    companions: tuple[CompanionRecord, ...] = ()
    impressions: ImpressionsRecord | None = None
    ratings: RatingsRecord | None = None
    seconds: float
    peak_memory_bytes: int | None = None
    device: str = "cpu"
    bootstrap_resamples: int
    tuned: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

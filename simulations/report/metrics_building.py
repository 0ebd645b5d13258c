"""Builds `metrics.json` from the evaluations of a run's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from common.errors import DataError
from common.interactions import Users
from common.metrics import METRIC_NAMES
from simulations.evaluation.full_ranking import PerUser, Stage
from simulations.evaluation.intervals import RESAMPLES, mean_interval, paired_difference
from simulations.fairness.groups import GroupReport, group_reports, user_gini
from simulations.report.metrics_file import (
    CompanionRecord,
    Comparison,
    GroupRecord,
    GroupsRecord,
    ImpressionsRecord,
    IntervalRecord,
    MetricsFile,
    MetricsRow,
    RatingsRecord,
    RowKind,
    SampledRecord,
    SplitName,
    TimeCutRecord,
)

FLOORS: tuple[RowKind, ...] = ("dp_popularity", "text_floor")


@dataclass(frozen=True)
class EvaluatedRow:
    """One row of the results table before statistics.

    Attributes:
        name: as printed, for instance `fedrec (local, ε=8)`.
        kind: see `RowKind`; floors are recognised by it.
        metrics: the evaluation; all rows of a table hold the same users in the same order.
        mode: `privacy.mode` of the row.
        epsilon: of each user, for a row that makes a claim.
        note: what a reader must know about the row.
        is_reference: whether the other rows are compared with this one, besides the model
            and the private floors, which always are references.
    """

    name: str
    kind: RowKind
    metrics: PerUser
    mode: Literal["none", "local", "distributed", "central"] = "none"
    epsilon: float | None = None
    note: str = ""
    is_reference: bool = False


@dataclass(frozen=True)
class RunCost:
    """What a run cost: wall-clock seconds, peak memory of the process, device."""

    seconds: float
    peak_memory_bytes: int | None = None
    device: str = "cpu"


def build_metrics(
    rows: Sequence[EvaluatedRow],
    *,
    dataset: str,
    split: SplitName,
    stage: Stage,
    cost: RunCost,
    users: Users | None = None,
    group_rows: Sequence[EvaluatedRow] | None = None,
    groups_split: SplitName | None = None,
    tuned: Sequence[str] = (),
    warnings: Sequence[str] = (),
    sampled: SampledRecord | None = None,
    time_cut: TimeCutRecord | None = None,
    companions: Sequence[CompanionRecord] = (),
    impressions: ImpressionsRecord | None = None,
    ratings: RatingsRecord | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MetricsFile:
    """Compute intervals, paired comparisons with the private floors, and group utilities.

    A private model row is *failed* when its mean HR@10 or NDCG@10 is under that of a DP-Pop
    row; what private learning adds is its difference from the text floor.

    Args:
        rows: the model first; every row evaluated on the same split and stage.
        dataset: name of the data set.
        split: the hold-out that `rows` were evaluated on.
        stage: `validation` or `test`.
        cost: of the run.
        users: attributes for group utilities; left out, there are none.
        group_rows: rows of a companion run on `groups_split` for the groups; `rows` when
            left out.
        groups_split: its split; `split` when left out.
        tuned: what was chosen on non-private validation, one line each.
        warnings: further warnings of the run.
        sampled: the rows among sampled negatives.
        time_cut: the robustness table.
        companions: what came of each companion run.
        impressions: the table of impressions.
        ratings: the table of predicted ratings.
        resamples: bootstrap resamples.
        seed: seeds the resampling.

    Returns:
        The content of `metrics.json`.

    Raises:
        DataError: no row, two rows of one name, or rows of different users.
    """
    _check_rows(rows)
    source = rows if group_rows is None else group_rows
    return MetricsFile(
        dataset=dataset,
        split=split,
        stage=stage,
        rows=tuple(metrics_row(row, rows, resamples, seed) for row in rows),
        groups=tuple(_groups(source, users, resamples, seed)) if users is not None else (),
        groups_split=groups_split or split,
        seconds=cost.seconds,
        peak_memory_bytes=cost.peak_memory_bytes,
        device=cost.device,
        bootstrap_resamples=resamples,
        tuned=tuple(tuned),
        warnings=tuple(warnings),
        sampled=sampled,
        time_cut=time_cut,
        companions=tuple(companions),
        impressions=impressions,
        ratings=ratings,
    )


def _check_rows(rows: Sequence[EvaluatedRow]) -> None:
    names = [row.name for row in rows]
    if not rows or len(set(names)) != len(names):
        raise DataError(f"a results table needs rows of different names, got {names}")
    for row in rows:
        if row.metrics.user_ids != rows[0].metrics.user_ids:
            raise DataError(
                f"row {row.name!r} was evaluated on other users than {rows[0].name!r}; "
                "evaluate all rows on one split and stage"
            )


def metrics_row(
    row: EvaluatedRow, rows: Sequence[EvaluatedRow], resamples: int, seed: int
) -> MetricsRow:
    """Compute one row's intervals, and its paired differences from rows of the same table."""
    means = {
        name: IntervalRecord.of(
            mean_interval(row.metrics.metric(name), resamples=resamples, seed=seed)
        )
        for name in METRIC_NAMES
    }
    judged = row.mode != "none" and row.kind in ("model", "ablation")
    floors = [other for other in rows if other.kind in FLOORS]
    comparisons = [_compare(row, other, resamples, seed) for other in floors] if judged else []
    references = [
        other
        for other in rows
        if other is not row and (other.is_reference or other.kind in ("model", *FLOORS))
    ]
    return MetricsRow(
        name=row.name,
        kind=row.kind,
        mode=row.mode,
        epsilon=row.epsilon,
        users=len(row.metrics.user_ids),
        comparisons=tuple(comparisons),
        differences=tuple(_compare(row, other, resamples, seed) for other in references),
        failed_against=tuple(
            comparison.other
            for comparison in comparisons
            if comparison.other_kind == "dp_popularity"
            and min(comparison.hr_10.mean, comparison.ndcg_10.mean) < 0
        ),
        note=row.note,
        **means,
    )


def _compare(row: EvaluatedRow, other: EvaluatedRow, resamples: int, seed: int) -> Comparison:
    differences: Mapping[str, IntervalRecord] = {
        name: IntervalRecord.of(
            paired_difference(
                row.metrics.metric(name), other.metrics.metric(name), resamples=resamples, seed=seed
            )
        )
        for name in ("hr_10", "ndcg_10")
    }
    return Comparison(other=other.name, other_kind=other.kind, **differences)


def _groups(
    rows: Sequence[EvaluatedRow], users: Users, resamples: int, seed: int
) -> list[GroupsRecord]:
    """Group the models by every attribute and the other rows by gender alone."""
    records = []
    for row in rows:
        attributes = {
            name: values
            for name, values in users.attributes.items()
            if row.kind == "model" or name == "gender"
        }
        reports = group_reports(
            row.metrics, users.user_ids, attributes, resamples=resamples, seed=seed
        )
        gini = user_gini(row.metrics.ndcg_10)
        records += [groups_record(row.name, report, gini) for report in reports]
    return records


def groups_record(row: str, report: GroupReport, gini: float) -> GroupsRecord:
    """Turn one row's utilities by one attribute into their record."""
    return GroupsRecord(
        row=row,
        attribute=report.attribute,
        groups=tuple(
            GroupRecord(group=g.group, n=g.n, utility=IntervalRecord.of(g.utility))
            for g in report.groups
        ),
        gap=IntervalRecord.of(report.gap),
        ratio=None if report.ratio != report.ratio else report.ratio,
        worst_group=report.worst_group,
        user_gini=gini,
    )

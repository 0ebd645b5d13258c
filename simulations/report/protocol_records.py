"""Builds what `metrics.json` says beside its table: sampled metrics, the time cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.holdout import Stage, UserSplit
from simulations.evaluation.intervals import mean_interval
from simulations.evaluation.sampled_ranking import (
    DRAWS,
    LEAK_NOTE,
    NEGATIVES,
    sampled_metrics,
)
from simulations.report.metrics_building import EvaluatedRow, metrics_row
from simulations.report.metrics_file import (
    IntervalRecord,
    SampledRecord,
    SampledRow,
    TimeCutRecord,
)


def sampled_record(
    rows: Sequence[EvaluatedRow],
    splits: Sequence[UserSplit],
    stage: Stage,
    items: int,
    *,
    resamples: int,
    seed: int,
) -> SampledRecord:
    """Re-rank every row that has ranks among sampled negatives: for comparison with papers.

    Args:
        rows: of the table; averages over noise draws have no ranks and are left out.
        splits: one per user, as they were ranked.
        stage: as they were ranked.
        items: V, size of the catalogue.
        resamples: of each interval.
        seed: seeds the negatives and the resampling.
    """
    found = {
        row.name: sampled_metrics(row.metrics, splits, stage, items, seed=seed)
        for row in rows
        if row.metrics.ranks
    }

    def interval(values: NDArray[np.float64]) -> IntervalRecord:
        return IntervalRecord.of(mean_interval(values, resamples=resamples, seed=seed))

    return SampledRecord(
        negatives=NEGATIVES,
        draws=DRAWS,
        note=LEAK_NOTE,
        rows=tuple(
            SampledRow(
                name=row.name,
                kind=row.kind,
                hr_10=interval(found[row.name].hr_10),
                ndcg_10=interval(found[row.name].ndcg_10),
            )
            for row in rows
            if row.name in found
        ),
    )


def time_cut_record(
    rows: Sequence[EvaluatedRow], cut: tuple[int, int], *, resamples: int, seed: int
) -> TimeCutRecord:
    """Turn the rows of a global time cut into their table.

    Args:
        rows: the model first; all of the same users.
        cut: from when on interactions validate, and test.
        resamples: of each interval.
        seed: seeds the resampling.
    """
    metrics = rows[0].metrics
    return TimeCutRecord(
        validation_from=cut[0],
        test_from=cut[1],
        users=len(metrics.user_ids),
        left_out=metrics.left_out,
        rows=tuple(metrics_row(row, rows, resamples, seed) for row in rows),
    )

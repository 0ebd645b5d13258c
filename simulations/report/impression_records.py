"""What `metrics.json` says of impressions, where the data set has some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from common.holdout import UserSplit
from common.interactions import Catalogue
from simulations.evaluation.full_ranking import Scorer
from simulations.evaluation.impression_metrics import IMPRESSION_METRICS
from simulations.evaluation.impressions import (
    ScoredImpressions,
    base_log_loss,
    calibrated_log_loss,
    pooled_auc,
    score_impressions,
    stage_impressions,
)
from simulations.fairness.user_intervals import percentile_interval, resampled_sums
from simulations.public.tables import Impression
from simulations.report.interval_record import IntervalRecord
from simulations.report.metrics_file import ImpressionsRecord, ImpressionsRow


def impressions_record(
    scorers: Sequence[tuple[str, Callable[[], Scorer]]],
    impressions: Iterable[Impression],
    splits: Sequence[UserSplit],
    catalogue: Catalogue,
    *,
    resamples: int,
    seed: int,
) -> ImpressionsRecord | None:
    """Score the test part's impressions by every scorer; None where there are none.

    Args:
        scorers: names as in the results table, and what makes each scorer: two of them may
            be one model with different weights, so that each is made when it is its turn.
        impressions: of the data set.
        splits: one per user.
        catalogue: of the run.
        resamples: of the users, for each interval.
        seed: seeds the resampling.
    """
    known = tuple(impressions)
    test = stage_impressions(known, splits, catalogue, "test")
    validation = stage_impressions(known, splits, catalogue, "validation")
    if not any(each.is_ranked for its in test.shown for each in its):
        return None
    rows = []
    base: float | None = None
    for name, made in scorers:
        scorer = made()
        found = score_impressions(scorer, test)
        loss = None
        if validation.splits:
            earlier = score_impressions(scorer, validation)
            if len(set(earlier.clicked)) == 2:
                loss = calibrated_log_loss(earlier, found)
                base = base_log_loss(earlier, found)
        rows.append(_row(name, found, loss, resamples, seed))
    total = sum(len(its) for its in test.shown)
    return ImpressionsRecord(
        users=len(test.splits),
        impressions=total - test.left_out,
        left_out=test.left_out,
        base_log_loss=base,
        rows=tuple(rows),
    )


def _row(
    name: str, found: ScoredImpressions, loss: float | None, resamples: int, seed: int
) -> ImpressionsRow:
    drawn = resampled_sums(found.sums, resamples=resamples, seed=seed)  # [B, 5]
    means = found.means()
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may have no impression
        ratios = drawn[:, :-1] / drawn[:, -1:]
    intervals = {
        metric: IntervalRecord.of(percentile_interval(means[metric], ratios[:, place]))
        for place, metric in enumerate(IMPRESSION_METRICS)
    }
    return ImpressionsRow(name=name, pooled_auc=pooled_auc(found), log_loss=loss, **intervals)

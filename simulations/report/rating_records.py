"""What `metrics.json` says of predicted ratings, where the model was trained to give some."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from common.holdout import Stage, UserSplit, is_judged, targets_of
from common.interactions import Int64Array
from common.requests import Requests, requests_of
from simulations.fairness.user_intervals import percentile_interval, resampled_sums
from simulations.report.interval_record import IntervalRecord
from simulations.report.metrics_file import RatingsRecord, RatingsRow

Floats = NDArray[np.float64]
Predict = Callable[[Requests], NDArray[np.float32]]
ITEM_MEAN, OVERALL_MEAN = "mean rating of the item", "mean of all ratings"
DAMPING = 5.0
"""Ratings at the overall mean that each item's mean is given beside its own."""
USERS_AT_ONCE = 512


def ratings_record(
    name: str,
    predict: Predict,
    splits: Sequence[UserSplit],
    items: int,
    stage: Stage,
    *,
    resamples: int,
    seed: int,
) -> RatingsRecord:
    """Errors at the held-out items' ratings, beside those of plain means.

    Args:
        name: of the model's row.
        predict: maps U requests to ratings of the catalogue, ``[U, V]``.
        splits: one per user.
        items: in the catalogue, V.
        stage: whose items are judged.
        resamples: of the users, for each interval.
        seed: seeds the resampling.
    """
    judged = [split for split in splits if is_judged(split, stage)]
    targets = [targets_of(split, stage) for split in judged]
    wanted = [_ratings(split, stage) for split in judged]
    of_items, overall = training_means(splits, items)
    rows = {
        name: _predicted(predict, judged, targets, stage),
        ITEM_MEAN: [of_items[its] for its in targets],
        OVERALL_MEAN: [np.full(len(its), overall) for its in targets],
    }
    sums = np.concatenate([_sums(wanted, told) for told in rows.values()], axis=1)  # [U, 3 rows]
    errors = _errors(sums.sum(axis=0)[None])[0]  # [rows, 2]
    drawn = _errors(resampled_sums(sums, resamples=resamples, seed=seed))  # [B, rows, 2]
    if len(judged) == 1:
        drawn[:] = np.nan  # one user says nothing about others: no interval

    def figure(row: int, kind: int) -> IntervalRecord:
        return IntervalRecord.of(percentile_interval(errors[row, kind], drawn[:, row, kind]))

    gain = percentile_interval(errors[0, 0] - errors[1, 0], drawn[:, 0, 0] - drawn[:, 1, 0])
    return RatingsRecord(
        users=len(judged),
        ratings=sum(map(len, wanted)),
        rows=tuple(
            RatingsRow(name=row, rmse=figure(place, 0), mae=figure(place, 1))
            for place, row in enumerate(rows)
        ),
        rmse_less_item_mean=IntervalRecord.of(gain),
    )


def training_means(splits: Sequence[UserSplit], items: int) -> tuple[Floats, float]:
    """Damped mean training rating of each item, ``[V]``, and the mean of all; exact, no privacy."""
    item = np.concatenate([split.train.items for split in splits])
    rating = np.concatenate([split.train.ratings for split in splits]).astype(np.float64)
    overall = float(rating.mean())
    sums = np.bincount(item, rating, items) + DAMPING * overall
    return sums / (np.bincount(item, minlength=items) + DAMPING), overall


def _ratings(split: UserSplit, stage: Stage) -> Floats:
    part = split.validation if stage == "validation" else split.test
    return part.ratings.astype(np.float64)


def _predicted(
    predict: Predict, judged: Sequence[UserSplit], targets: Sequence[Int64Array], stage: Stage
) -> list[Floats]:
    found: list[Floats] = []
    for start in range(0, len(judged), USERS_AT_ONCE):
        part = slice(start, start + USERS_AT_ONCE)
        told = predict(requests_of(judged[part], stage))
        found += [row[its].astype(np.float64) for row, its in zip(told, targets[part], strict=True)]
    return found


def _sums(wanted: Sequence[Floats], told: Sequence[Floats]) -> Floats:
    """Of each user: sum of squared errors, of absolute errors, and their number, ``[U, 3]``."""
    missed = [mine - theirs for mine, theirs in zip(told, wanted, strict=True)]
    return np.array([[np.square(m).sum(), np.abs(m).sum(), len(m)] for m in missed])


def _errors(sums: Floats) -> Floats:
    """RMSE and MAE from sums ``[B, 3 rows]``: ``[B, rows, 2]``."""
    parts = sums.reshape(len(sums), -1, 3)
    return np.stack(
        [np.sqrt(parts[..., 0] / parts[..., 2]), parts[..., 1] / parts[..., 2]], axis=-1
    )

"""Errors of predicted ratings: against sums by hand, and where they show."""

from __future__ import annotations

import numpy as np
import pytest

from common.holdout import ItemSequence, UserSplit
from common.requests import Requests
from simulations.report.rating_records import (
    DAMPING,
    ITEM_MEAN,
    OVERALL_MEAN,
    ratings_record,
    training_means,
)

ITEMS = 6


def part(items: list[int], ratings: list[float]) -> ItemSequence:
    times = np.arange(len(items), dtype=np.int64)
    return ItemSequence(np.array(items, np.int64), np.array(ratings, np.float32), times)


SPLITS = [
    UserSplit("a", part([0, 1], [5, 1]), part([2], [4]), part([3], [2])),
    UserSplit("b", part([1, 2], [3, 3]), part([0], [5]), part([3, 4], [4, 1])),
    UserSplit("c", part([0], [4]), part([], []), part([], [])),  # nobody asks for this one
]
TOLD = np.array([[1, 2, 3, 2.5, 4, 5], [1, 2, 3, 3, 3, 5]], dtype=np.float32)


def predict(asked: Requests) -> np.ndarray:
    assert [list(history) for history in asked] == [[0, 1, 2], [1, 2, 0]]
    return TOLD


def test_errors_are_those_by_hand() -> None:
    found = ratings_record("m", predict, SPLITS, ITEMS, "test", resamples=200, seed=1)
    assert (found.users, found.ratings) == (2, 3)
    model, of_item, of_all = found.rows
    missed = np.array([2.5 - 2, 3 - 4, 3 - 1])
    assert model.rmse.mean == pytest.approx(np.sqrt(np.square(missed).mean()))
    assert model.mae.mean == pytest.approx(np.abs(missed).mean())
    overall = (5 + 1 + 3 + 3 + 4) / 5
    assert (of_item.name, of_all.name) == (ITEM_MEAN, OVERALL_MEAN)
    # Neither test item was rated in training: their damped means are the overall mean.
    assert of_item.rmse.mean == pytest.approx(of_all.rmse.mean)
    by_hand = np.sqrt(np.square(overall - np.array([2, 4, 1])).mean())
    assert of_all.rmse.mean == pytest.approx(by_hand)
    assert found.rmse_less_item_mean.mean == pytest.approx(model.rmse.mean - by_hand)
    assert model.rmse.low is not None
    assert model.rmse.low <= model.rmse.mean <= (model.rmse.high or 0)


def test_one_user_has_no_interval() -> None:
    alone = [SPLITS[0], SPLITS[2]]
    found = ratings_record(
        "m", lambda _asked: TOLD[:1], alone, ITEMS, "test", resamples=200, seed=1
    )
    assert (found.users, found.rows[0].rmse.mean) == (1, pytest.approx(0.5))
    intervals = [row.rmse for row in found.rows] + [found.rmse_less_item_mean]
    assert {(each.low, each.high) for each in intervals} == {(None, None)}


def test_training_means_are_damped_and_see_no_held_out_rating() -> None:
    means, overall = training_means(SPLITS, ITEMS)
    assert overall == pytest.approx(16 / 5)
    assert means[0] == pytest.approx((5 + 4 + DAMPING * overall) / (2 + DAMPING))
    assert means[2] == pytest.approx((3 + DAMPING * overall) / (1 + DAMPING))
    assert means[3] == means[4] == means[5] == pytest.approx(overall)

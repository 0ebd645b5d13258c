"""Exact evaluation: histories per stage, batches, and faults of a scorer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from common.errors import DataError
from common.holdout import ItemSequence, UserSplit
from simulations.evaluation.full_ranking import (
    Stage,
    evaluate_scorer,
    history_of,
    mean_over_draws,
    targets_of,
)

ITEMS = 12


def sequence(*items: int) -> ItemSequence:
    n = len(items)
    return ItemSequence(
        np.array(items, dtype=np.int64), np.ones(n, np.float32), np.arange(n, dtype=np.int64)
    )


def split(name: str, train: list[int], validation: list[int], test: list[int]) -> UserSplit:
    return UserSplit(name, sequence(*train), sequence(*validation), sequence(*test))


SPLITS = [
    split("a", [0, 1], [2], [3]),
    split("b", [5, 4], [3], [11]),
    split("c", [7], [8, 9], [10, 0]),
]


def by_index(histories: Sequence[np.ndarray]) -> np.ndarray:
    """Prefer low item indices, whatever the history."""
    return np.tile(-np.arange(ITEMS, dtype=np.float32), (len(histories), 1))


def test_validation_items_are_history_only_at_test() -> None:
    assert history_of(SPLITS[0], "validation").tolist() == [0, 1]
    assert history_of(SPLITS[0], "test").tolist() == [0, 1, 2]
    assert targets_of(SPLITS[2], "validation").tolist() == [8, 9]
    assert targets_of(SPLITS[2], "test").tolist() == [10, 0]


def test_ranks_by_hand() -> None:
    found = evaluate_scorer(by_index, SPLITS, "test")
    # a: 3 is the first unseen item; b: 0,1,2,6,7,8,9,10 stand before 11; c: 0 first, 10 last but
    # one (unseen: 0,1,2,3,4,5,6,10,11).
    assert [ranks.tolist() for ranks in found.ranks] == [[1], [9], [8, 1]]
    assert found.user_ids == ("a", "b", "c")
    assert found.mrr == pytest.approx([1, 1 / 9, 1])
    assert found.sums().users == 3
    assert found.sums().hr_10 == 3


def test_the_scorer_is_given_histories_oldest_first_and_nothing_later() -> None:
    given: list[list[int]] = []

    def spy(histories: Sequence[np.ndarray]) -> np.ndarray:
        given.extend(history.tolist() for history in histories)
        return by_index(histories)

    evaluate_scorer(spy, SPLITS, "validation")
    assert given == [[0, 1], [5, 4], [7]]


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_batches_do_not_change_the_result(stage: Stage) -> None:
    whole = evaluate_scorer(by_index, SPLITS, stage)
    pieces = evaluate_scorer(by_index, SPLITS, stage, users_per_batch=1)
    assert [r.tolist() for r in whole.ranks] == [r.tolist() for r in pieces.ranks]


def test_users_without_a_target_are_left_out() -> None:
    found = evaluate_scorer(by_index, [SPLITS[0], split("d", [1], [2], [])], "test")
    assert found.user_ids == ("a",)


def test_no_targets_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="none of 1 users has a history and a test item"):
        evaluate_scorer(by_index, [split("d", [1], [2], [])], "test")


def test_a_wrong_shape_is_an_error() -> None:
    with pytest.raises(DataError, match=r"shape \(1, 12\) for 3 histories"):
        evaluate_scorer(lambda histories: by_index(histories[:1]), SPLITS, "test")


def test_draws_are_averaged_user_by_user() -> None:
    good = evaluate_scorer(by_index, SPLITS, "test")
    bad = evaluate_scorer(lambda histories: -by_index(histories), SPLITS, "test")
    mean = mean_over_draws([good, bad])
    assert mean.mrr == pytest.approx((good.mrr + bad.mrr) / 2)
    assert mean.ranks == ()


def test_draws_must_hold_the_same_users() -> None:
    good = evaluate_scorer(by_index, SPLITS, "test")
    fewer = evaluate_scorer(by_index, SPLITS[:2], "test")
    with pytest.raises(DataError, match="the same users"):
        mean_over_draws([good, fewer])
    with pytest.raises(DataError, match="0 draws"):
        mean_over_draws([])


def test_users_without_history_or_target_are_counted_and_left_out() -> None:
    newcomer = split("new", [], [], [4])
    gone = split("gone", [4, 5], [], [])
    later = split("later", [], [1], [6])  # what was seen before the test is a history
    found = evaluate_scorer(by_index, [*SPLITS, newcomer, gone, later], "test")
    assert found.user_ids == ("a", "b", "c", "later")
    assert found.left_out == 2
    assert mean_over_draws([found, found]).left_out == 2


def test_a_tensor_is_ranked_like_an_array() -> None:
    def on_device(histories: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(by_index(histories))

    left, right = (evaluate_scorer(scorer, SPLITS, "test") for scorer in (by_index, on_device))
    assert [r.tolist() for r in left.ranks] == [r.tolist() for r in right.ranks]

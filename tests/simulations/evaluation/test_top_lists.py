"""Top-k lists: what stands in them, how ties fall, and that they are those of the ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.holdout import ItemSequence, UserSplit
from simulations.evaluation.top_lists import NOBODY, evaluate_with_lists, top_lists


def sequence(*items: int) -> ItemSequence:
    n = len(items)
    return ItemSequence(
        np.array(items, dtype=np.int64), np.ones(n, np.float32), np.arange(n, dtype=np.int64)
    )


def test_lists_by_hand() -> None:
    scores = np.array([[1, 5, 3, 4, 2], [5, 4, 3, np.nan, 1]], dtype=np.float32)
    lists = top_lists(scores, [np.array([1]), np.array([], dtype=np.int64)], k=3)
    assert lists.tolist() == [[3, 2, 4], [0, 1, 2]]


def test_a_user_without_enough_candidates_has_empty_places() -> None:
    lists = top_lists(np.zeros((1, 3), np.float32), [np.array([0, 2])], k=3)
    assert lists.tolist() == [[1, NOBODY, NOBODY]]
    assert top_lists(np.zeros((1, 2), np.float32), [np.array([0, 1])], k=4).tolist() == [
        [NOBODY] * 4
    ]


def test_equal_scores_are_not_listed_in_the_order_of_ids() -> None:
    scores = np.zeros((1, 200), np.float32)
    nobody = [np.array([], dtype=np.int64)]
    first = top_lists(scores, nobody, seed=0)[0]
    assert first.tolist() != sorted(first)
    assert first.max() > 50
    assert first.tolist() == top_lists(scores, nobody, seed=0)[0].tolist()
    assert first.tolist() != top_lists(scores, nobody, seed=1)[0].tolist()


@given(st.integers(0, 2**32 - 1))
def test_a_list_holds_the_best_candidates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, 12)).astype(np.float32)
    histories = [rng.permutation(12)[: rng.integers(0, 8)] for _ in range(3)]
    for row, (found, history) in enumerate(
        zip(top_lists(scores, histories, 4), histories, strict=True)
    ):
        candidates = np.setdiff1d(np.arange(12), history)
        best = candidates[np.argsort(-scores[row, candidates])][:4]
        assert found.tolist() == best.tolist()


def test_lists_are_of_the_evaluated_users_over_all_batches() -> None:
    splits = [
        UserSplit(str(n), sequence(n % 5), sequence((n + 1) % 5), sequence((n + 2) % 5))
        for n in range(300)
    ]
    splits.insert(7, UserSplit("no test", sequence(0), sequence(1), sequence()))
    calls = []

    def scorer(histories: Sequence[np.ndarray]) -> np.ndarray:
        calls.append(len(histories))
        return np.tile(np.arange(9, dtype=np.float32), (len(histories), 1))

    metrics, lists = evaluate_with_lists(scorer, splits, "test", k=2)
    assert sum(calls) == len(metrics.user_ids) == len(lists) == 300
    assert (lists == [8, 7]).all()

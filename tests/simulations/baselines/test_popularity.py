"""Random and popularity rows."""

from __future__ import annotations

import numpy as np

from common.holdout import ItemSequence, UserSplit
from simulations.baselines import popularity_scorer, random_scorer


def sequence(*items: int) -> ItemSequence:
    n = len(items)
    return ItemSequence(
        np.array(items, dtype=np.int64), np.ones(n, np.float32), np.arange(n, dtype=np.int64)
    )


def test_popularity_counts_train_items_only() -> None:
    splits = [
        UserSplit("a", sequence(0, 1), sequence(2), sequence(3)),
        UserSplit("b", sequence(1), sequence(3), sequence(3)),
    ]
    scores = popularity_scorer(splits, 5)([np.zeros(0, dtype=np.int64)] * 2)
    assert scores.tolist() == [[1, 2, 0, 0, 0]] * 2


def test_random_scores_differ_between_users_and_repeat_with_the_seed() -> None:
    histories = [np.zeros(0, dtype=np.int64)] * 2
    first, again = random_scorer(50, 1)(histories), random_scorer(50, 1)(histories)
    assert (first == again).all()
    assert (first[0] != first[1]).any()
    assert (first != random_scorer(50, 2)(histories)).any()

"""Implicit ALS: it tells tastes apart, which popularity cannot, and leaves unknown items alone."""

from __future__ import annotations

import numpy as np

from common.holdout import ItemSequence, UserSplit
from simulations.baselines import choose_implicit_als
from simulations.baselines.implicit_als import implicit_als_scorer

ITEMS = 20  # the first ten are one taste, the others another


def sequence(items: np.ndarray) -> ItemSequence:
    n = len(items)
    return ItemSequence(items, np.ones(n, np.float32), np.arange(n, dtype=np.int64))


def two_tastes(users: int = 60) -> list[UserSplit]:
    rng = np.random.default_rng(0)
    rows = [rng.permutation(10)[:8] + 10 * (user % 2) for user in range(users)]
    return [
        UserSplit(str(user), *(sequence(part) for part in np.split(row, [6, 7])))
        for user, row in enumerate(rows)
    ]


def test_a_history_raises_its_own_taste() -> None:
    scores = implicit_als_scorer(two_tastes(), ITEMS, 5.0, 0)([np.arange(3), np.arange(10, 13)])
    assert scores[0, 3:10].mean() > 10 * abs(scores[0, 10:]).max()
    assert scores[1, 13:].mean() > 10 * abs(scores[1, :10]).max()


def test_an_item_that_nobody_trained_on_scores_zero() -> None:
    scores = implicit_als_scorer(two_tastes(), ITEMS + 2, 5.0, 0)([np.array([0, ITEMS + 1])])
    assert scores.shape == (1, ITEMS + 2)
    assert (scores[:, ITEMS:] == 0).all()


def test_the_choice_does_not_look_at_test() -> None:
    splits = two_tastes()
    _, chosen = choose_implicit_als(splits, ITEMS, 0, (1.0, 9.0))
    blind = [UserSplit(s.user_id, s.train, s.validation, s.validation) for s in splits]
    assert choose_implicit_als(blind, ITEMS, 0, (1.0, 9.0))[1] == chosen

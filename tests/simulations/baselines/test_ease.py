"""EASE: LensKit's weights equal Steck's closed form on our splits."""

from __future__ import annotations

import numpy as np
import pytest

from common.holdout import UserSplit, hold_out
from simulations.baselines import choose_ease, ease_scorer
from simulations.evaluation.full_ranking import evaluate_scorer, history_of
from simulations.synthetic import synthetic_dataset

ITEMS = 40


@pytest.fixture(scope="module")
def splits() -> list[UserSplit]:
    dataset = synthetic_dataset(users=50, items=ITEMS, seed=1)
    return hold_out(dataset.interactions, dataset.catalogue, split="leave_one_out", seed=0)


def test_scores_equal_the_closed_form(splits: list[UserSplit]) -> None:
    seen = np.zeros((len(splits), ITEMS))
    for row, split in enumerate(splits):
        seen[row, split.train.items] = 1
    inverse = np.linalg.inv(seen.T @ seen + 20 * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    histories = [history_of(split, "test") for split in splits]
    known = np.zeros((len(splits), ITEMS))
    for row, history in enumerate(histories):
        known[row, history] = 1
    scores = ease_scorer(splits, ITEMS, 20.0)(histories)
    np.testing.assert_allclose(scores, known @ weights, atol=1e-4)


def test_items_that_nobody_trained_on_score_zero(splits: list[UserSplit]) -> None:
    scores = ease_scorer(splits, ITEMS + 2, 20.0)([splits[0].train.items])
    assert scores.shape == (1, ITEMS + 2)
    assert (scores[:, ITEMS:] == 0).all()


def test_the_best_on_validation_is_chosen_without_looking_at_test(
    splits: list[UserSplit],
) -> None:
    grid = (5.0, 50.0, 500.0)
    _, chosen = choose_ease(splits, ITEMS, grid)
    quality = {
        value: evaluate_scorer(ease_scorer(splits, ITEMS, value), splits, "validation")
        .ndcg_10.mean()
        for value in grid
    }  # fmt: skip
    assert chosen == max(quality, key=lambda value: float(quality[value]))
    blind = [UserSplit(s.user_id, s.train, s.validation, s.validation) for s in splits]
    assert choose_ease(blind, ITEMS, grid)[1] == chosen

"""EASE: LensKit's weights equal Steck's closed form on our splits."""

from __future__ import annotations

import numpy as np
import pytest

from common.holdout import UserSplit, hold_out
from simulations.baselines import choose_ease, choose_recency_ease, ease_scorer, solve_ease
from simulations.baselines.ease import ease_weights
from simulations.baselines.recency_ease import recency_ease_scorer
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
    solved = solve_ease(splits, ITEMS, grid)
    _, chosen = choose_ease(splits, solved)
    quality = {
        value: evaluate_scorer(ease_scorer(splits, ITEMS, value), splits, "validation")
        .ndcg_10.mean()
        for value in grid
    }  # fmt: skip
    assert chosen == max(quality, key=lambda value: float(quality[value]))
    blind = [UserSplit(s.user_id, s.train, s.validation, s.validation) for s in splits]
    assert choose_ease(blind, solved)[1] == chosen
    fading = choose_recency_ease(splits, solved, (2.0, 8.0))[1]
    assert choose_recency_ease(blind, solved, (2.0, 8.0))[1] == fading


def test_an_endless_half_life_is_ease(splits: list[UserSplit]) -> None:
    histories = [history_of(split, "test") for split in splits]
    weights = ease_weights(splits, ITEMS, 20.0)
    endless = recency_ease_scorer(weights, 1e9)(histories)
    np.testing.assert_allclose(endless, ease_scorer(splits, ITEMS, 20.0)(histories), atol=1e-5)


def test_an_older_item_counts_for_less() -> None:
    weights = np.eye(3, dtype=np.float32)[[1, 2, 0]]  # item 0 speaks for 1, and 1 for 2
    [row] = recency_ease_scorer(weights, 1.0)([np.array([0, 1])])
    assert row.tolist() == [0.0, 0.5, 1.0]

"""EASE with a history that fades: the strongest simple baseline without privacy.

The weights are EASE's, solved from the train Gram matrix; only at scoring does an older item
of the user count for less. On MovieLens-100K that is worth more than what most models learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.holdout import UserSplit
from simulations.baselines.best_of import best_of
from simulations.evaluation.full_ranking import Scorer

HALF_LIFE_GRID: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def recency_ease_scorer(weights: NDArray[np.float32], half_life: float) -> Scorer:
    """Score by EASE's weights and a history weighted by recency.

    Args:
        weights: float32[V, V] from `ease_weights`.
        half_life: in items: one that is so many items older counts half; positive.

    Returns:
        The scorer.
    """

    def score(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        seen = np.zeros((len(histories), len(weights)), dtype=np.float32)
        for row, history in enumerate(histories):
            seen[row, history] = 0.5 ** (np.arange(len(history))[::-1] / half_life)
        return seen @ weights

    return score


def choose_recency_ease(
    splits: Sequence[UserSplit],
    solved: Mapping[float, NDArray[np.float32]],
    half_lives: Sequence[float] = HALF_LIFE_GRID,
) -> tuple[Scorer, tuple[float, float]]:
    """Choose λ and the half-life together by NDCG@10 on validation; test is never read.

    Args:
        splits: one per user.
        solved: EASE's weights by λ, from `solve_ease`.
        half_lives: in items.

    Returns:
        The best scorer, and its λ and half-life.
    """
    scorers = {
        (value, half_life): recency_ease_scorer(weights, half_life)
        for value, weights in solved.items()
        for half_life in half_lives
    }
    return best_of(scorers, splits)

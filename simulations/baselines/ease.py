"""EASE (Steck, 2019) on pooled data: the strongest simple baseline without privacy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from lenskit.knn import EASEScorer
from lenskit.training import TrainingOptions
from numpy.typing import NDArray

from common.holdout import UserSplit
from simulations.baselines.best_of import best_of
from simulations.baselines.lenskit_data import lenskit_dataset
from simulations.evaluation.full_ranking import Scorer

EASE_GRID: tuple[float, ...] = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)


def ease_scorer(splits: Sequence[UserSplit], items: int, regularization: float) -> Scorer:
    """Train LensKit's EASE on the train parts and score by it.

    Args:
        splits: one per user; only the train part is read.
        items: V, size of the catalogue. Items without train interactions score 0.
        regularization: λ > 0 on the diagonal of the Gram matrix.

    Returns:
        The scorer.
    """
    return weighted_scorer(ease_weights(splits, items, regularization))


def weighted_scorer(weights: NDArray[np.float32]) -> Scorer:
    """Score by the product of the user's binary history with item weights, float32[V, V].

    The whole catalogue is ranked in one step.
    """

    def score(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        seen = np.zeros((len(histories), len(weights)), dtype=np.float32)
        for row, history in enumerate(histories):
            seen[row, history] = 1.0
        return seen @ weights

    return score


def ease_weights(
    splits: Sequence[UserSplit], items: int, regularization: float
) -> NDArray[np.float32]:
    """Solve for EASE's weights on the train parts: float32[V, V], history item to scored item."""
    model = EASEScorer(regularization=regularization)
    model.train(lenskit_dataset(splits, items), TrainingOptions(device="cpu"))
    weights = np.zeros((items, items), dtype=np.float32)
    known = model.items.ids().astype(np.int64)
    weights[np.ix_(known, known)] = model.weights
    return weights


def solve_ease(
    splits: Sequence[UserSplit], items: int, grid: Sequence[float] = EASE_GRID
) -> dict[float, NDArray[np.float32]]:
    """Solve for EASE's weights at each λ of `grid`."""
    return {value: ease_weights(splits, items, value) for value in grid}


def choose_ease(
    splits: Sequence[UserSplit], solved: Mapping[float, NDArray[np.float32]]
) -> tuple[Scorer, float]:
    """Choose λ by NDCG@10 on validation; the test part is never read.

    Args:
        splits: one per user.
        solved: EASE's weights by λ, from `solve_ease`.

    Returns:
        The best scorer and its λ.
    """
    return best_of({value: weighted_scorer(weights) for value, weights in solved.items()}, splits)

"""The two rows that learn nothing about a user: random order and popularity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.holdout import UserSplit
from simulations.evaluation.full_ranking import Scorer


def random_scorer(items: int, seed: int) -> Scorer:
    """Score V items by chance, anew for each history.

    Args:
        items: V, size of the catalogue.
        seed: seeds the scores; two calls with equal seeds give equal scores in turn.

    Returns:
        The scorer. It expects HR@10 of 10 / (number of candidates) on one target.
    """
    rng = np.random.default_rng(seed)

    def score(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        return rng.random((len(histories), items), dtype=np.float32)

    return score


def train_counts(splits: Sequence[UserSplit], items: int) -> NDArray[np.int64]:
    """Count each item's train interactions over all users: int64[V]."""
    seen = np.concatenate([*(split.train.items for split in splits), np.zeros(0, np.int64)])
    return np.bincount(seen.astype(np.int64), minlength=items)


def popularity_scorer(splits: Sequence[UserSplit], items: int) -> Scorer:
    """Score every item by its number of train interactions, the same for all users.

    Args:
        splits: one per user; only the train part is read.
        items: V, size of the catalogue.

    Returns:
        The scorer.
    """
    return constant_scorer(train_counts(splits, items).astype(np.float32))


def constant_scorer(scores: NDArray[np.float32]) -> Scorer:
    """Give every history the same scores, float32[V]."""

    def score(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        return np.broadcast_to(scores, (len(histories), len(scores)))

    return score

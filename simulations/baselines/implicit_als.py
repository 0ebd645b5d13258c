"""Implicit ALS (Hu, Koren & Volinsky, 2008) on pooled data, by LensKit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lenskit.als import ImplicitMFScorer
from lenskit.data import ItemList
from lenskit.training import TrainingOptions
from numpy.typing import NDArray

from common.holdout import UserSplit
from simulations.baselines.best_of import best_of
from simulations.baselines.lenskit_data import lenskit_dataset
from simulations.evaluation.full_ranking import Scorer

CONFIDENCE_GRID: tuple[float, ...] = (1.0, 3.0, 9.0)
WIDTH, EPOCHS = 64, 10


def implicit_als_scorer(
    splits: Sequence[UserSplit], items: int, confidence: float, seed: int
) -> Scorer:
    """Train on the train parts; a history is folded in by one least-squares step.

    Args:
        splits: one per user; only the train part is read.
        items: V, size of the catalogue. Items without train interactions score 0.
        confidence: weight of an interaction against a missing one.
        seed: of the start.

    Returns:
        The scorer.
    """
    model = ImplicitMFScorer(
        embedding_size=WIDTH, epochs=EPOCHS, weight=confidence, user_embeddings=False
    )
    model.train(lenskit_dataset(splits, items), TrainingOptions(device="cpu", rng=seed))
    known = model.items.ids().astype(np.int64)
    table = np.zeros((items, WIDTH), dtype=np.float32)
    table[known] = np.asarray(model.item_embeddings)

    def score(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        users = [
            np.asarray(model.new_user_embedding(None, ItemList(item_ids=history))[0])
            for history in histories
        ]
        return (np.stack(users) @ table.T).astype(np.float32)

    return score


def choose_implicit_als(
    splits: Sequence[UserSplit],
    items: int,
    seed: int,
    grid: Sequence[float] = CONFIDENCE_GRID,
) -> tuple[Scorer, float]:
    """Choose the confidence by NDCG@10 on validation; the test part is never read."""
    scorers = {value: implicit_als_scorer(splits, items, value, seed) for value in grid}
    return best_of(scorers, splits)

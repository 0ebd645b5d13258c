"""EASE (Steck, 2019) on pooled data: the strongest simple baseline without privacy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from lenskit.data import DatasetBuilder
from lenskit.knn import EASEScorer
from lenskit.training import TrainingOptions
from numpy.typing import NDArray

from common.holdout import UserSplit
from simulations.evaluation.full_ranking import Scorer, evaluate_scorer

EASE_GRID: tuple[float, ...] = (50.0, 100.0, 200.0, 400.0, 800.0)


def ease_scorer(splits: Sequence[UserSplit], items: int, regularization: float) -> Scorer:
    """Train LensKit's EASE on the train parts and score by it.

    LensKit solves for the item weights; scoring is the product of the user's binary history
    with them, so that the whole catalogue is ranked in one step.

    Args:
        splits: one per user; only the train part is read.
        items: V, size of the catalogue. Items without train interactions score 0.
        regularization: λ > 0 on the diagonal of the Gram matrix.

    Returns:
        The scorer.
    """
    model = EASEScorer(regularization=regularization)
    model.train(_lenskit_dataset(splits, items), TrainingOptions(device="cpu"))
    weights = np.zeros((items, items), dtype=np.float32)  # [V, V], history item -> scored item
    known = model.items.ids().astype(np.int64)
    weights[np.ix_(known, known)] = model.weights

    def score(histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        seen = np.zeros((len(histories), items), dtype=np.float32)
        for row, history in enumerate(histories):
            seen[row, history] = 1.0
        return seen @ weights

    return score


def choose_ease(
    splits: Sequence[UserSplit], items: int, grid: Sequence[float] = EASE_GRID
) -> tuple[Scorer, float]:
    """Choose λ by NDCG@10 on validation; the test part is never read.

    Args:
        splits: one per user.
        items: V, size of the catalogue.
        grid: values of λ to try.

    Returns:
        The best scorer and its λ.
    """
    scorers = {value: ease_scorer(splits, items, value) for value in grid}
    quality = {
        value: evaluate_scorer(scorer, splits, "validation").ndcg_10.mean()
        for value, scorer in scorers.items()
    }
    best = max(quality, key=lambda value: float(quality[value]))
    return scorers[best], best


def _lenskit_dataset(splits: Sequence[UserSplit], items: int):  # type: ignore[no-untyped-def]
    rows = [
        pd.DataFrame({"user_id": number, "item_id": np.unique(split.train.items)})
        for number, split in enumerate(splits)
    ]
    builder = DatasetBuilder()
    builder.add_entities("item", np.arange(items))
    builder.add_interactions(
        "rating", pd.concat(rows), entities=["user", "item"], missing="insert", default=True
    )
    return builder.build()

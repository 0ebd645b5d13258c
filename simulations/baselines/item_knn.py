"""ItemKNN (Deshpande & Karypis, 2004) on pooled data, with LensKit's similarities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lenskit.knn import ItemKNNScorer
from lenskit.training import TrainingOptions
from numpy.typing import NDArray

from common.holdout import UserSplit
from simulations.baselines.best_of import best_of
from simulations.baselines.ease import weighted_scorer
from simulations.baselines.lenskit_data import lenskit_dataset
from simulations.evaluation.full_ranking import Scorer

KNN_GRID: tuple[int, ...] = (20, 50, 100, 200, 400)


def item_similarities(splits: Sequence[UserSplit], items: int) -> NDArray[np.float32]:
    """Compute cosine similarities of the items' train users with LensKit: float32[V, V]."""
    model = ItemKNNScorer(feedback="implicit")
    model.train(lenskit_dataset(splits, items), TrainingOptions(device="cpu"))
    known = model.items.ids().astype(np.int64)
    similarity = np.zeros((items, items), dtype=np.float32)
    similarity[np.ix_(known, known)] = model.sim_matrix.to_scipy().toarray()
    return similarity


def item_knn_scorer(similarity: NDArray[np.float32], neighbours: int) -> Scorer:
    """Score an item by its similarity to those of its nearest items that the user has.

    Args:
        similarity: float32[V, V], of items; 0 on the diagonal.
        neighbours: k, how many nearest items each item keeps.

    Returns:
        The scorer.
    """
    return weighted_scorer(_nearest(similarity, neighbours).T)  # [history item, scored item]


def choose_item_knn(
    splits: Sequence[UserSplit], items: int, grid: Sequence[int] = KNN_GRID
) -> tuple[Scorer, int]:
    """Choose k by NDCG@10 on validation; the test part is never read."""
    similarity = item_similarities(splits, items)
    return best_of({k: item_knn_scorer(similarity, k) for k in grid}, splits)


def _nearest(similarity: NDArray[np.float32], neighbours: int) -> NDArray[np.float32]:
    """Zero all but the largest `neighbours` values of each row."""
    if neighbours >= similarity.shape[1]:
        return similarity
    far = np.argpartition(-similarity, neighbours - 1, axis=1)[:, neighbours:]
    kept = similarity.copy()
    np.put_along_axis(kept, far, 0.0, axis=1)
    return kept

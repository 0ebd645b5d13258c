"""Top-k lists of a scorer, taken while it is evaluated, so that it scores only once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from common.holdout import UserSplit
from simulations.evaluation.full_ranking import PerUser, Scorer, Scores, Stage, evaluate_scorer

LIST_LENGTH = 10
NOBODY = -1
TIE_STREAM = 0x746965  # keeps the order of equal scores apart from other streams of a seed


def top_lists(
    scores: NDArray[np.float32],
    histories: Sequence[NDArray[np.int64]],
    k: int = LIST_LENGTH,
    *,
    seed: int = 0,
) -> NDArray[np.int64]:
    """List each user's k best items outside the history, best first.

    Equal scores stand in a seeded random order of the items, never in that of their ids. A
    NaN score is as low as any can be.

    Args:
        scores: float[U, V], higher is better.
        histories: U arrays of item indices that are left out.
        k: length of the lists.
        seed: seeds the order of equal scores.

    Returns:
        int64[U, k]; `NOBODY` fills the places of a user with fewer than k candidates.
    """
    users, items = scores.shape
    shuffled = np.random.default_rng([seed, TIE_STREAM]).permutation(items)
    key = np.where(np.isnan(scores), -np.inf, scores.astype(np.float64))
    candidate = np.ones((users, items), dtype=bool)
    lengths = [len(history) for history in histories]
    seen = np.concatenate([*histories, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    candidate[np.repeat(np.arange(users), lengths), seen] = False
    order = np.lexsort((-key[:, shuffled], ~candidate[:, shuffled]), axis=1)[:, :k]  # [U, ≤k]
    best = shuffled[order]
    lists = np.full((users, k), NOBODY, dtype=np.int64)
    lists[:, : best.shape[1]] = np.where(np.take_along_axis(candidate, best, 1), best, NOBODY)
    return lists


def evaluate_with_lists(
    scorer: Scorer,
    splits: Sequence[UserSplit],
    stage: Stage,
    k: int = LIST_LENGTH,
    *,
    seed: int = 0,
) -> tuple[PerUser, NDArray[np.int64]]:
    """Evaluate a scorer and keep its lists, of the same scores.

    Args:
        scorer: trained on the train part only.
        splits: one per user; users without a target at this stage are left out.
        stage: `validation` or `test`.
        k: length of the lists.
        seed: seeds the order of equal scores in the lists.

    Returns:
        The metrics of each user, and int64[U, k] in the same order of users.
    """
    kept: list[NDArray[np.int64]] = []

    def listing(histories: Sequence[NDArray[np.int64]]) -> Scores:
        scores = scorer(histories)
        table = scores.cpu().numpy() if isinstance(scores, torch.Tensor) else scores
        kept.append(top_lists(table, histories, k, seed=seed))
        return scores

    metrics = evaluate_scorer(listing, splits, stage)
    return metrics, np.concatenate(kept)

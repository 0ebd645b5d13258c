"""Chooses between settings of a baseline, on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from common.holdout import UserSplit
from simulations.evaluation.full_ranking import Scorer, evaluate_scorer

Setting = TypeVar("Setting")


def best_of(
    scorers: Mapping[Setting, Scorer], splits: Sequence[UserSplit]
) -> tuple[Scorer, Setting]:
    """Return the scorer with the highest mean NDCG@10 on validation, and its setting.

    The test part is never read; of equals the first is taken.

    Args:
        scorers: by setting; each trained on the train part only.
        splits: one per user.

    Returns:
        The scorer and its setting.
    """
    quality = {
        setting: float(evaluate_scorer(scorer, splits, "validation").ndcg_10.mean())
        for setting, scorer in scorers.items()
    }
    best = max(quality, key=lambda setting: quality[setting])
    return scorers[best], best

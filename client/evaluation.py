"""Evaluation at a site: the ranking metrics of each of its users.

They stay at the site; `client.metrics_release` says what of them may leave, and how.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.holdout import UserSplit
from common.metrics import user_metrics
from common.ranking import worst_ranks
from common.recommender import Recommender


def metrics_by_user(
    recommender: Recommender,
    splits: Sequence[UserSplit],
    stage: Literal["validation", "test"],
) -> dict[str, npt.NDArray[np.float64]]:
    """Ranks all unseen items for each user of the site under the loaded adapter.

    At test time the validation items are part of the history, as input only.

    Returns:
        Each metric by name, float64 ``[U]``.
    """
    targets = [getattr(split, stage).items for split in splits]
    if stage == "test":
        histories = [np.concatenate([s.train.items, s.validation.items]) for s in splits]
    else:
        histories = [s.train.items for s in splits]
    ranks = worst_ranks(recommender.score_all(histories), targets, histories)
    return user_metrics(ranks)

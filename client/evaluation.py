"""Exact evaluation at a site: sums of ranking metrics over its users.

Exact sums are not noised: they are for the lab only, and a site's policy says whether
they may leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from common.holdout import UserSplit
from common.metrics import MetricSums, user_metrics
from common.ranking import worst_ranks
from common.recommender import Recommender


def evaluate_users(
    recommender: Recommender,
    splits: Sequence[UserSplit],
    stage: Literal["validation", "test"],
) -> MetricSums:
    """Ranks all unseen items for each user of the site under the loaded adapter.

    At test time the validation items are part of the history, as input only.
    """
    targets = [getattr(split, stage).items for split in splits]
    if stage == "test":
        histories = [np.concatenate([s.train.items, s.validation.items]) for s in splits]
    else:
        histories = [s.train.items for s in splits]
    ranks = worst_ranks(recommender.score_all(histories), targets, histories)
    return MetricSums.from_users(user_metrics(ranks))

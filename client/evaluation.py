"""Evaluation at a site: the ranking metrics of each of its users.

They stay at the site; `client.metrics_release` says what of them may leave, and how.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.holdout import Stage, UserSplit, is_judged, targets_of
from common.metrics import user_metrics
from common.ranking import worst_ranks
from common.recommender import Recommender
from common.requests import requests_of


def metrics_by_user(
    recommender: Recommender,
    splits: Sequence[UserSplit],
    stage: Stage,
) -> dict[str, npt.NDArray[np.float64]]:
    """Ranks all unseen items for each user of the site under the loaded adapter.

    At test time the validation items are part of the history, as input only. Users without
    a history or a target are left out; only a global time cut leaves some.

    Returns:
        Each metric by name, float64 ``[U]``.
    """
    judged = [split for split in splits if is_judged(split, stage)]
    targets = [targets_of(split, stage) for split in judged]
    requests = requests_of(judged, stage)
    ranks = worst_ranks(recommender.score_all(requests), targets, requests)
    return user_metrics(ranks)

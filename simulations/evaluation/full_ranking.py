"""Exact evaluation in the lab: full ranking of every scorer on one and the same split.

Only a simulation may look at these figures: outside, a metric is a release that costs ε.
The model and all baselines are scorers, so that all of them pass through one code path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.holdout import UserSplit
from common.metrics import METRIC_NAMES, MetricSums, user_metrics
from common.ranking import worst_ranks

Stage = Literal["validation", "test"]
Scorer = Callable[[Sequence[NDArray[np.int64]]], NDArray[np.float32]]
"""Maps U histories (item indices, oldest first) to scores float32[U, V], higher is better."""


@dataclass(frozen=True)
class PerUser:
    """Metrics of each user, aligned with `user_ids`; float64[U] each.

    Attributes:
        user_ids: the U users who had a target at this stage.
        ranks: U arrays of the 1-based ranks of the user's targets; of an average over noise
            draws there are none.
    """

    user_ids: tuple[str, ...]
    hr_10: NDArray[np.float64]
    hr_20: NDArray[np.float64]
    ndcg_10: NDArray[np.float64]
    ndcg_20: NDArray[np.float64]
    mrr: NDArray[np.float64]
    ranks: tuple[NDArray[np.int64], ...]

    def metric(self, name: str) -> NDArray[np.float64]:
        """Return float64[U] of the metric `name`, one of `common.metrics.METRIC_NAMES`."""
        values: NDArray[np.float64] = getattr(self, name)
        return values

    def sums(self) -> MetricSums:
        """Return the sums over all users."""
        return MetricSums.from_users({name: self.metric(name) for name in METRIC_NAMES})


def history_of(split: UserSplit, stage: Stage) -> NDArray[np.int64]:
    """Return what is known of a user before the stage's targets: int64[n], oldest first.

    At test time the validation items are *input*; no scorer was trained on them.
    """
    if stage == "validation":
        return split.train.items
    return np.concatenate([split.train.items, split.validation.items])


def targets_of(split: UserSplit, stage: Stage) -> NDArray[np.int64]:
    """Return the items to be ranked at this stage: int64[m]."""
    return split.validation.items if stage == "validation" else split.test.items


def evaluate_scorer(
    scorer: Scorer,
    splits: Sequence[UserSplit],
    stage: Stage,
    *,
    users_per_batch: int = 256,
) -> PerUser:
    """Rank, for each user, the stage's targets among all items outside the history.

    Args:
        scorer: trained on the train part only.
        splits: one per user; users without a target at this stage are left out.
        stage: `validation` to choose between settings, `test` to look once.
        users_per_batch: bounds memory to `users_per_batch` rows of V scores.

    Returns:
        The metrics of each user.

    Raises:
        DataError: no user has a target, or the scorer returned a wrong shape.
    """
    judged = [split for split in splits if len(targets_of(split, stage))]
    if not judged:
        raise DataError(
            f"none of {len(splits)} users has a {stage} item; lower data.min_interactions "
            "or use more data"
        )
    ranks: list[NDArray[np.int64]] = []
    for start in range(0, len(judged), users_per_batch):
        batch = judged[start : start + users_per_batch]
        histories = [history_of(split, stage) for split in batch]
        scores = scorer(histories)
        if scores.ndim != 2 or scores.shape[0] != len(batch):
            raise DataError(
                f"a scorer returned shape {scores.shape} for {len(batch)} histories; "
                "it must return one row of scores over the catalogue per history"
            )
        ranks += worst_ranks(scores, [targets_of(split, stage) for split in batch], histories)
    return PerUser(
        user_ids=tuple(split.user_id for split in judged),
        ranks=tuple(ranks),
        **user_metrics(ranks),
    )


def mean_over_draws(draws: Sequence[PerUser]) -> PerUser:
    """Average each user's metrics over several draws of noise (or seeds).

    Args:
        draws: evaluations of the same users in the same order.

    Returns:
        The averaged metrics, without ranks.

    Raises:
        DataError: no draw, or the draws do not hold the same users.
    """
    if not draws or any(draw.user_ids != draws[0].user_ids for draw in draws):
        raise DataError(
            f"an average over {len(draws)} draws needs the same users in each; "
            "evaluate all draws on one split and stage"
        )
    means = {name: np.mean([d.metric(name) for d in draws], axis=0) for name in METRIC_NAMES}
    return PerUser(user_ids=draws[0].user_ids, ranks=(), **means)

"""Exact evaluation in the lab: full ranking of every scorer on one and the same split.

Only a simulation may look at these figures: outside, a metric is a release that costs ε.
The model and all baselines are scorers, so that all of them pass through one code path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import DataError
from common.holdout import Stage as Stage
from common.holdout import UserSplit, is_judged
from common.holdout import history_of as history_of
from common.holdout import targets_of as targets_of
from common.metrics import METRIC_NAMES, MetricSums, user_metrics
from common.ranking import worst_ranks
from common.requests import requests_of
from simulations.evaluation.device_ranking import worst_ranks_on_device

Scores = NDArray[np.float32] | torch.Tensor
Scorer = Callable[[Sequence[NDArray[np.int64]]], Scores]
"""Maps U histories (item indices, oldest first) to scores float32[U, V], higher is better.

What it is given is a `common.requests.Requests`, so that one may read more than histories.
Scores that are a tensor are ranked on the tensor's device; on the CPU NumPy is as quick.
"""


@dataclass(frozen=True)
class PerUser:
    """Metrics of each user, aligned with `user_ids`; float64[U] each.

    Attributes:
        user_ids: the U users who had a target at this stage.
        ranks: U arrays of the 1-based ranks of the user's targets; of an average over noise
            draws there are none.
        left_out: users without a history or without a target, who were not judged.
    """

    user_ids: tuple[str, ...]
    hr_10: NDArray[np.float64]
    hr_20: NDArray[np.float64]
    ndcg_10: NDArray[np.float64]
    ndcg_20: NDArray[np.float64]
    mrr: NDArray[np.float64]
    ranks: tuple[NDArray[np.int64], ...]
    left_out: int = 0

    def metric(self, name: str) -> NDArray[np.float64]:
        """Return float64[U] of the metric `name`, one of `common.metrics.METRIC_NAMES`."""
        values: NDArray[np.float64] = getattr(self, name)
        return values

    def sums(self) -> MetricSums:
        """Return the sums over all users."""
        return MetricSums.from_users({name: self.metric(name) for name in METRIC_NAMES})


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
        splits: one per user; users without a history or without a target at this
            stage are counted and left out.
        stage: `validation` to choose between settings, `test` to look once.
        users_per_batch: bounds memory to `users_per_batch` rows of V scores.

    Returns:
        The metrics of each user.

    Raises:
        DataError: no user has a target, or the scorer returned a wrong shape.
    """
    judged = judged_users(splits, stage)
    ranks: list[NDArray[np.int64]] = []
    for batch, scores in scored_batches(scorer, judged, stage, users_per_batch):
        histories = [history_of(split, stage) for split in batch]
        targets = [targets_of(split, stage) for split in batch]
        if isinstance(scores, torch.Tensor):
            ranks += worst_ranks_on_device(scores, targets, histories)
        else:
            ranks += worst_ranks(scores, targets, histories)
    return PerUser(
        user_ids=tuple(split.user_id for split in judged),
        ranks=tuple(ranks),
        left_out=len(splits) - len(judged),
        **user_metrics(ranks),
    )


def judged_users(splits: Sequence[UserSplit], stage: Stage) -> list[UserSplit]:
    """Return the users who have a history and a target at this stage.

    Raises:
        DataError: there is none.
    """
    judged = [split for split in splits if is_judged(split, stage)]
    if not judged:
        raise DataError(
            f"none of {len(splits)} users has a history and a {stage} item; lower "
            "data.min_interactions or use more data"
        )
    return judged


def scored_batches(
    scorer: Scorer, judged: Sequence[UserSplit], stage: Stage, users_per_batch: int
) -> Iterator[tuple[Sequence[UserSplit], Scores]]:
    """Yield some users at a time with their scores ``[U, V]``.

    Raises:
        DataError: the scorer returned a wrong shape.
    """
    for start in range(0, len(judged), users_per_batch):
        batch = judged[start : start + users_per_batch]
        scores = scorer(requests_of(batch, stage))
        if scores.ndim != 2 or scores.shape[0] != len(batch):
            raise DataError(
                f"a scorer returned shape {tuple(scores.shape)} for {len(batch)} histories; "
                "it must return one row of scores over the catalogue per history"
            )
        yield batch, scores


def mean_over_draws(draws: Sequence[PerUser]) -> PerUser:
    """Average each user's metrics over several draws: of noise, of seeds, of tie orders.

    A published figure is over several tie seeds (`data.seed`): each holds out other items of
    the users whose last moments are tied, so each is a run of its own.

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
    return PerUser(user_ids=draws[0].user_ids, ranks=(), left_out=draws[0].left_out, **means)

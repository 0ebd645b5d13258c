"""How the worst-served users fare: the mean of the lowest tenth of a metric.

The worst tenth's NDCG@10 is 0 for every model, so it is taken of figures that look at whole
rankings: AUC and MRR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from simulations.evaluation.intervals import RESAMPLES, Interval
from simulations.fairness.user_intervals import Floats, bootstrap_interval

WORST_SHARE = 0.1


def user_auc(
    ranks: Sequence[NDArray[np.int64]], candidates: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute each user's full-rank AUC from the ranks of their targets.

    The share of (target, other candidate) pairs in which the target stands above; the i-th
    best target at rank r has r − i others above it. 1 where there is no other candidate.

    Args:
        ranks: U arrays of 1-based ranks among all candidates, none twice.
        candidates: int64 ``[U]``, how many candidates each user has, targets included.

    Returns:
        float64 ``[U]`` in [0, 1].

    Raises:
        DataError: a user has no target, or fewer candidates than a rank says.
    """
    targets = np.array([len(row) for row in ranks], dtype=np.int64)
    highest = np.array([row.max(initial=0) for row in ranks], dtype=np.int64)
    if len(ranks) != len(candidates) or (targets == 0).any() or (highest > candidates).any():
        raise DataError(
            f"AUC needs ranks of at least one target within each user's candidates, got "
            f"{len(ranks)} users with ranks and {len(candidates)} with candidates; "
            "use the ranks of evaluate_scorer"
        )
    above = np.array([row.sum() for row in ranks]) - targets * (targets + 1) / 2
    pairs = targets * (candidates - targets)
    return np.where(pairs > 0, 1.0 - above / np.maximum(pairs, 1), 1.0)


def worst_mean(values: Floats, share: float = WORST_SHARE) -> Floats:
    """Mean of the lowest ⌈share · n⌉ values of each row of ``[b, n]``."""
    worst = max(1, math.ceil(share * values.shape[1]))
    lowest: Floats = np.partition(values, worst - 1, axis=1)[:, :worst]
    return np.asarray(lowest.mean(axis=1))


def worst_tenth(
    values: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Bootstrap the mean of the worst-served 10% of users.

    Args:
        values: float64 ``[U]``, one per user.
        resamples: number of bootstrap resamples of the users.
        seed: seeds the resampling.
    """
    return bootstrap_interval(values, worst_mean, resamples=resamples, seed=seed)

"""Two-level bootstrap: how a mean would vary over other users *and* other seeds.

Users and seeds are crossed: every user was evaluated under every seed. Both are drawn with
replacement and a resample's mean runs over all its pairs (Owen, Annals of Applied Statistics
2007, "The pigeonhole bootstrap"). A plain resample of S members has (S - 1)/S of their variance,
so weights are spread by √(S/(S - 1)) about their mean (Rao & Wu, JASA 1988). With one seed only
the users are drawn, and the interval says nothing about other seeds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from simulations.evaluation.intervals import CONFIDENCE, RESAMPLES, Interval

_CELLS_PER_BATCH = 2_000_000  # bounds one batch of resamples to 16 MB


def two_level_mean(
    values: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Bootstrap the mean of one value per seed and user.

    The difference of two rows that are paired by seed and user is the mean of `first - second`.

    Args:
        values: float64[S, U], finite: S seeds of the same U users in the same order.
        resamples: number of resamples.
        seed: seeds the resampling only.

    Returns:
        The mean with its 95% percentile interval; a single user has an interval of NaN.

    Raises:
        DataError: no value, or a value that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise DataError(
            f"a two-level interval needs finite values of shape [seeds, users], got shape "
            f"{values.shape}; check the evaluation"
        )
    seeds, users = values.shape
    mean = float(values.mean())
    if users == 1:
        return Interval(mean, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_PER_BATCH // users)
    drawn = []
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        of_users = _weights(users, count, rng)  # [B, U]
        of_seeds = _weights(seeds, count, rng)  # [B, S]
        drawn.append(((of_users @ values.T) * of_seeds).sum(axis=1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def _weights(members: int, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """What each of N members weighs in each resample, ``[B, N]``; every row sums to 1."""
    if members == 1:
        return np.ones((resamples, 1))
    even = 1 / members
    counts = rng.multinomial(members, np.full(members, even), size=resamples)
    return even + (counts / members - even) * math.sqrt(members / (members - 1))

"""Percentile bootstrap over users: intervals of means and of paired differences.

Users are the sampling unit (Efron & Tibshirani, 1993, chapter 13); the intervals say how the
figure would vary over other users of the same kind, not over other noise or tie seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from common.errors import DataError

RESAMPLES = 2000
CONFIDENCE = 0.95
_CELLS_PER_BATCH = 4_000_000  # bounds one batch of resamples to 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean over users with its percentile interval."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return `{mean, low, high}`, as the report's files hold it."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def mean_interval(
    values: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Bootstrap the mean of one value per user.

    Args:
        values: float64[U], finite.
        resamples: number of bootstrap resamples of the users.
        confidence: two-sided level of the percentile interval.
        seed: seeds the resampling only.

    Returns:
        The mean and its interval; a single user has an interval of NaN, because one user
        says nothing about others.

    Raises:
        DataError: no value, or a value that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        raise DataError(
            f"an interval needs finite values of at least one user, got {len(values)} values "
            f"of which {int(np.isfinite(values).sum())} are finite; check the scorer"
        )
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, math.nan, math.nan)
    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _CELLS_PER_BATCH // len(values)),
        confidence_level=confidence,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(mean, float(low), float(high))


def paired_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Bootstrap the mean of `first - second`, both of the *same* users in the same order.

    Args:
        first: float64[U].
        second: float64[U].
        resamples: number of bootstrap resamples of the users.
        confidence: two-sided level of the percentile interval.
        seed: seeds the resampling only.

    Returns:
        The mean difference and its interval; it excludes zero where one scorer is better
        for users of this kind.

    Raises:
        DataError: the two do not hold the same number of users.
    """
    if len(first) != len(second):
        raise DataError(
            f"a paired comparison needs the same users, got {len(first)} and {len(second)}; "
            "evaluate both scorers on the same split and stage"
        )
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return mean_interval(difference, resamples=resamples, confidence=confidence, seed=seed)

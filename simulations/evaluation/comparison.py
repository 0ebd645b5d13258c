"""Two-level bootstrap, over users and over noise seeds: is one method better than another?

A figure of a private method varies with its users and with its noise. Methods are paired over
users, who are the same, and independent over seeds. The interval resamples users jointly for
both methods and the seeds of each by itself (the crossed, or "pigeonhole", bootstrap of Owen,
2007). A plain resample of S seeds has S-1 parts in S of their variance, which matters at ten
seeds, so weights are spread by √(S/(S-1)) about their mean (Rao & Wu, 1988).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from simulations.evaluation.full_ranking import PerUser
from simulations.evaluation.intervals import CONFIDENCE, RESAMPLES, Interval

_CELLS_PER_BATCH = 4_000_000  # bounds one batch of resamples to 32 MB


def seed_matrix(seeds: Sequence[PerUser], metric: str) -> NDArray[np.float64]:
    """Stack one metric of S evaluations of the same users, one per noise seed.

    Args:
        seeds: S evaluations; where tie seeds were run too, their mean (`mean_over_draws`).
        metric: one of `common.metrics.METRIC_NAMES`.

    Returns:
        float64[S, U].

    Raises:
        DataError: no evaluation, or they do not hold the same users in the same order.
    """
    if not seeds or any(each.user_ids != seeds[0].user_ids for each in seeds):
        raise DataError(
            f"{len(seeds)} seeds are to be stacked and do not hold the same users; evaluate all "
            "of them on one split and stage"
        )
    return np.stack([each.metric(metric) for each in seeds])


def two_level_mean(
    values: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Bootstrap the mean of a method over users and over its seeds.

    Args:
        values: float64[S, U]: seeds, users; S = 1 says that the method has no noise.
        resamples: number of resamples.
        confidence: two-sided level of the percentile interval.
        seed: seeds the resampling only.

    Returns:
        The mean and its interval; NaN bounds for a single user.

    Raises:
        DataError: `values` is no table of finite numbers.
    """
    return _interval([(values, 1.0)], resamples, confidence, seed)


def two_level_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Bootstrap the mean of `first` less `second` over users and over the seeds of each.

    Args:
        first: float64[S, U]: seeds, users; S = 1 says that the method has no noise.
        second: float64[S', U], the same users in the same order.
        resamples: number of resamples.
        confidence: two-sided level of the percentile interval.
        seed: seeds the resampling only.

    Returns:
        The mean difference and its interval; `first` beats `second` where it excludes zero.

    Raises:
        DataError: one is no table of finite numbers, or they do not hold the same users.
    """
    return _interval([(first, 1.0), (second, -1.0)], resamples, confidence, seed)


def _interval(
    signed: Sequence[tuple[NDArray[np.float64], float]],
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    tables = [np.asarray(values, dtype=np.float64) for values, _ in signed]
    _check(tables)
    signs = [sign for _, sign in signed]
    mean = float(sum(sign * t.mean() for sign, t in zip(signs, tables, strict=True)))
    users = tables[0].shape[1]
    if users == 1:
        return Interval(mean, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    found = []
    batch = max(1, _CELLS_PER_BATCH // users)
    for start in range(0, resamples, batch):
        count = min(batch, resamples - start)
        of_user = _weights(users, count, rng)  # [R, U]
        total = np.zeros(count)
        for sign, table in zip(signs, tables, strict=True):
            of_seed = _weights(len(table), count, rng)  # [R, S]
            total += sign * ((of_user @ table.T) * of_seed).sum(axis=1)
        found.append(total)
    outside = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(found), [outside, 1 - outside])
    return Interval(mean, float(low), float(high))


def _weights(members: int, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64[R, N]: what each member weighs in each resample; every row sums to 1."""
    if members == 1:
        return np.ones((resamples, 1))
    even = 1.0 / members
    counts = rng.multinomial(members, np.full(members, even), size=resamples)
    spread: NDArray[np.float64] = np.sqrt(members / (members - 1)) * (counts * even - even)
    return even + spread


def _check(tables: Sequence[NDArray[np.float64]]) -> None:
    shapes = [table.shape for table in tables]
    if any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise DataError(f"a comparison needs tables [seeds, users], got shapes {shapes}")
    if len({shape[1] for shape in shapes}) != 1:
        raise DataError(
            f"a paired comparison needs the same users, got shapes {shapes} of [seeds, users]; "
            "evaluate both methods on the same split and stage"
        )
    if not all(np.isfinite(table).all() for table in tables):
        raise DataError("a comparison needs finite metrics of every user; check the scorers")

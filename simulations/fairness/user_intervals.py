"""Intervals over users of figures that are no plain means.

Percentile bootstrap (Efron & Tibshirani, 1993, chapter 13) where a figure of a resample means
the same as of the users themselves. What counts *distinct* items (coverage, inequality of
exposure) does not: a resample holds each user several times or never, so it always shows
fewer items. Such figures get a delete-a-group jackknife (chapter 11).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from simulations.evaluation.intervals import CONFIDENCE, RESAMPLES, Interval

Floats = NDArray[np.float64]
GROUPS = 200
_CELLS_PER_BATCH = 2_000_000  # bounds a batch of resamples to 16 MB


def percentile_interval(value: float, resampled: Floats) -> Interval:
    """Put the 95% percentile interval of `resampled` ``[B]`` around `value`.

    A resample in which the figure is not defined (NaN) is left out; where that is all of
    them, or there is one user only, there is no interval (NaN).
    """
    defined = resampled[np.isfinite(resampled)]
    if len(defined) == 0:
        return Interval(value, math.nan, math.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def resampled_rows(users: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Draw users with replacement: int64 ``[b, U]`` in batches, `resamples` rows in all."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_PER_BATCH // users)
    for start in range(0, resamples, at_once):
        yield rng.integers(users, size=(min(at_once, resamples - start), users))


def bootstrap_interval(
    values: Floats,
    figure: Callable[[Floats], Floats],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Bootstrap a figure of one value per user.

    Args:
        values: float64 ``[U]``.
        figure: maps ``[b, U]`` to ``[b]``, row by row.
        resamples: number of resamples of the users.
        seed: seeds the resampling.

    Returns:
        The figure of all users with its interval.
    """
    whole = float(figure(values[None])[0])
    if len(values) < 2:
        return Interval(whole, math.nan, math.nan)
    batches = resampled_rows(len(values), resamples, seed)
    return percentile_interval(whole, np.concatenate([figure(values[rows]) for rows in batches]))


def resampled_sums(
    values: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Sum ``[U, K]`` over each of `resamples` resamples of the users: float64 ``[B, K]``."""
    users = len(values)
    sums = []
    for rows in resampled_rows(users, resamples, seed):
        places = rows + users * np.arange(len(rows))[:, None]
        times = np.bincount(places.ravel(), minlength=rows.size).reshape(rows.shape)
        sums.append(times.astype(np.float64) @ values)
    return np.concatenate(sums)


@dataclass(frozen=True)
class GroupMeans:
    """Means of G disjoint groups of users, of K values each.

    Attributes:
        sizes: int64 ``[G]``.
        means: float64 ``[G, K]``.
        drawn: float64 ``[B, G, K]``, of B resamples of the users within each group.
    """

    sizes: NDArray[np.int64]
    means: Floats
    drawn: Floats

    def interval(self, group: int, value: int = 0) -> Interval:
        """Return one group's mean of one value; one user alone has no interval."""
        mean = float(self.means[group, value])
        if self.sizes[group] < 2:
            return Interval(mean, math.nan, math.nan)
        return percentile_interval(mean, self.drawn[:, group, value])


def group_means(
    values: Floats, group: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = 0
) -> GroupMeans:
    """Bootstrap the means of disjoint groups; users are resampled within their group.

    Args:
        values: float64 ``[U, K]``.
        group: int64 ``[U]``, each user's group, every one of 0 … G − 1 at least once.
        resamples: number of resamples.
        seed: seeds the resampling.
    """
    order = np.argsort(group, kind="stable")
    ordered, sizes = values[order], np.bincount(group)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    first, width = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    rng, drawn = np.random.default_rng(seed), []
    at_once = max(1, _CELLS_PER_BATCH // values.size)
    for start in range(0, resamples, at_once):
        uniform = rng.random((min(at_once, resamples - start), len(order)))
        rows = first + (uniform * width).astype(np.int64)  # [b, U], each in its own group
        drawn.append(np.add.reduceat(ordered[rows], starts, axis=1) / sizes[:, None])
    means = np.add.reduceat(ordered, starts, axis=0) / sizes[:, None]
    return GroupMeans(sizes, means, np.concatenate(drawn))


def jackknife_interval(
    groups: Floats, figure: Callable[[Floats], Floats], *, seen: Floats
) -> Interval:
    """Delete one group of users after the other.

    Args:
        groups: float64 ``[G, K]``: the sums over the users of each group.
        figure: maps sums ``[b, K]`` to ``[b]``.
        seen: ``[K]``: the sums over all users.

    Returns:
        The figure of all users ± 1.96 jackknife standard errors; no interval below two groups.
    """
    whole = float(figure(seen[None])[0])
    count = len(groups)
    if count < 2:
        return Interval(whole, math.nan, math.nan)
    without = figure(seen[None] - groups)  # [G]
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    width = float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    return Interval(whole, whole - width, whole + width)


def gini(values: Floats) -> Floats:
    """Compute the Gini coefficient of each row of ``[b, n]``: Σᵢ(2i − n − 1)·y₍ᵢ₎ / (n·Σy).

    0 means equal; it stays below 1. A row of zeros has 0.
    """
    ordered = np.sort(values, axis=1)
    n = values.shape[1]
    total = ordered.sum(axis=1)
    lean = ordered @ (2.0 * np.arange(1, n + 1) - n - 1)
    return np.where(total > 0, lean / np.where(total > 0, n * total, 1.0), 0.0)

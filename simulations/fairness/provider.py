"""Equal opportunity among providers: how likely a relevant item of each group is shown.

P(recommended | relevant) over the test events of a group's items, and its standard deviation
over groups relative to their mean (Zhu, Wang & Caverlee, SIGIR 2020): 0 where an item that a
user wants is found equally well whichever group it is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.evaluation.intervals import RESAMPLES, Interval
from simulations.fairness.user_intervals import Floats, percentile_interval, resampled_sums

POPULARITY_THIRDS = ("least popular third", "middle third", "most popular third")


@dataclass(frozen=True)
class ItemGroups:
    """Groups of items; an item may be in several, or in none.

    Attributes:
        names: of the G groups.
        member: bool ``[V, G]``.
    """

    names: tuple[str, ...]
    member: NDArray[np.bool_]


@dataclass(frozen=True)
class ProviderGroup:
    """One group of `items` items; `relevant` counts the test events of its items."""

    group: str
    items: int
    relevant: int
    probability: Interval


@dataclass(frozen=True)
class ProviderReport:
    """Groups that had a test event, in order of probability, and std ÷ mean over them."""

    groups: tuple[ProviderGroup, ...]
    dispersion: Interval


def genre_groups(genres: Sequence[Sequence[str]]) -> ItemGroups:
    """Group V items by genre; an item with several genres counts in each."""
    names = tuple(sorted({genre for row in genres for genre in row}))
    column = {name: number for number, name in enumerate(names)}
    member = np.zeros((len(genres), len(names)), dtype=bool)
    for item, row in enumerate(genres):
        member[item, [column[genre] for genre in row]] = True
    return ItemGroups(names, member)


def popularity_groups(counts: NDArray[np.int64]) -> ItemGroups:
    """Group the items into thirds of the catalogue by train count; ties by index."""
    member = np.zeros((len(counts), len(POPULARITY_THIRDS)), dtype=bool)
    for number, part in enumerate(np.array_split(np.argsort(counts, kind="stable"), 3)):
        member[part, number] = True
    return ItemGroups(POPULARITY_THIRDS, member)


def dispersion(shares: Floats) -> Floats:
    """Standard deviation over mean of each row of ``[b, G]``; NaN where the mean is 0."""
    known = np.isfinite(shares)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, shares, 0.0).sum(axis=1) / count
    squares = np.where(known, (shares - mean[:, None]) ** 2, 0.0).sum(axis=1) / count
    return np.where(mean > 0, np.sqrt(squares) / np.where(mean > 0, mean, 1.0), np.nan)


def equal_opportunity(
    ranks: Sequence[NDArray[np.int64]],
    targets: Sequence[NDArray[np.int64]],
    groups: ItemGroups,
    *,
    k: int = 10,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ProviderReport | None:
    """Compute P(recommended | relevant) of each group of items.

    Args:
        ranks: U arrays of 1-based ranks, one for each target.
        targets: U arrays of the targets' item indices, aligned with `ranks`.
        groups: of the items.
        k: an item is recommended when it stands among the first k.
        resamples: bootstrap resamples of the users.
        seed: seeds the resampling.

    Returns:
        The report over the groups that had a test event; none where no group had.
    """
    relevant = np.stack([groups.member[row].sum(axis=0) for row in targets]).astype(np.float64)
    shown = [groups.member[row[rank <= k]] for row, rank in zip(targets, ranks, strict=True)]
    hits = np.stack([row.sum(axis=0) for row in shown]).astype(np.float64)  # [U, G]
    known = np.flatnonzero(relevant.sum(axis=0))
    if len(known) == 0:
        return None
    both = np.concatenate([hits[:, known], relevant[:, known]], axis=1)
    shares = _shares(both.sum(axis=0)[None])  # [1, G]
    drawn = _shares(resampled_sums(both, resamples=resamples, seed=seed))  # [B, G]
    reports = [
        ProviderGroup(
            group=groups.names[group],
            items=int(groups.member[:, group].sum()),
            relevant=int(relevant[:, group].sum()),
            probability=percentile_interval(float(shares[0, place]), drawn[:, place]),
        )
        for place, group in enumerate(known)
    ]
    whole = float(np.nan_to_num(dispersion(shares)[0]))
    return ProviderReport(
        groups=tuple(sorted(reports, key=lambda group: -group.probability.mean)),
        dispersion=percentile_interval(whole, dispersion(drawn)),
    )


def _shares(sums: Floats) -> Floats:
    """``[b, 2·G]`` of hits and relevant events to ``[b, G]``; NaN where nothing was relevant."""
    hits, relevant = np.split(sums, 2, axis=1)
    return np.where(relevant > 0, hits / np.where(relevant > 0, relevant, 1.0), np.nan)

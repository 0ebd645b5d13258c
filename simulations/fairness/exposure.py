"""What users are shown: how much of the catalogue, how unequally, and how popular it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from simulations.evaluation.intervals import Interval
from simulations.evaluation.top_lists import NOBODY
from simulations.fairness.user_intervals import GROUPS, Floats, gini, jackknife_interval

SHORT_HEAD = 0.8


@dataclass(frozen=True)
class Exposure:
    """Exposure of the items in users' lists; see `docs/fairness.md`.

    Attributes:
        coverage: share of the catalogue that stands in some list.
        gini: inequality of the items' places in lists, items without any included.
        popularity: mean over places of the item's popularity (share of users whose train part
            has it).
        long_tail_share: share of places that go to long-tail items.
    """

    coverage: Interval
    gini: Interval
    popularity: Interval
    long_tail_share: Interval


def long_tail(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the items outside the short head: bool ``[V]``.

    The short head are the most popular items that together have 80% of the train
    interactions (Abdollahpouri et al., 2017); of equal counts the lower index comes first.

    Args:
        counts: int64 ``[V]``, train interactions of each item.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]  # interactions of more popular items
    tail = np.empty(len(counts), dtype=bool)
    tail[order] = before >= SHORT_HEAD * counts.sum()
    return tail


def exposure(lists: NDArray[np.int64], counts: NDArray[np.int64], users: int) -> Exposure:
    """Measure the exposure of items in users' lists.

    Args:
        lists: int64 ``[U, k]`` from `top_lists`.
        counts: int64 ``[V]``, train interactions of each item.
        users: number of users that `counts` is of.

    Returns:
        The figures with jackknife intervals over users.

    Raises:
        DataError: no list has an item, or an item is outside the catalogue.
    """
    items = len(counts)
    if not (lists != NOBODY).any() or lists.max() >= items or lists.min() < NOBODY:
        raise DataError(
            f"exposure needs lists of items in 0..{items - 1}, got {lists.shape[0]} lists; "
            "take them from top_lists of the same catalogue"
        )
    groups = _shown_by_group(lists, items)  # [G, V]
    seen = groups.sum(axis=0)
    popularity, tail = counts / max(users, 1), long_tail(counts).astype(np.float64)

    def mean_of(worth: Floats, shown: Floats) -> Floats:
        total = shown.sum(axis=1)
        return np.where(total > 0, shown @ worth / np.where(total > 0, total, 1.0), 0.0)

    return Exposure(
        coverage=jackknife_interval(groups, lambda s: (s > 0).mean(axis=1), seen=seen),
        gini=jackknife_interval(groups, gini, seen=seen),
        popularity=jackknife_interval(groups, lambda s: mean_of(popularity, s), seen=seen),
        long_tail_share=jackknife_interval(groups, lambda s: mean_of(tail, s), seen=seen),
    )


def _shown_by_group(lists: NDArray[np.int64], items: int) -> Floats:
    """float64 ``[G, V]``: how often each item stands in the lists of each group of users.

    Users are dealt to the groups in turn; up to 200 users each is a group of its own.
    """
    count = min(len(lists), GROUPS)
    group = np.broadcast_to((np.arange(len(lists)) % count)[:, None], lists.shape)
    filled = lists != NOBODY
    places = group[filled] * items + lists[filled]
    return np.bincount(places, minlength=count * items).reshape(count, items).astype(np.float64)

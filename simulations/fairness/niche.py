"""Niche and mainstream users: utility by thirds of what they watch and how much is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.holdout import UserSplit
from simulations.evaluation.intervals import RESAMPLES, Interval
from simulations.fairness.groups import GroupUtility
from simulations.fairness.user_intervals import group_means, percentile_interval

PROFILE_THIRDS = ("niche third", "middle third", "mainstream third")
LENGTH_THIRDS = ("shortest histories", "middle third", "longest histories")
TIE_STREAM = 0x7468697264  # keeps the order of equal users apart from other streams of a seed


@dataclass(frozen=True)
class Thirds:
    """Utility of the thirds of users in order; `gap` is that of the last minus the first."""

    groups: tuple[GroupUtility, ...]
    gap: Interval


def profile_popularity(
    splits: Sequence[UserSplit], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean number of train interactions of each user's train items: float64 ``[U]``.

    Low for users of niche taste. The user's own interactions are counted as well: every
    user's alike.
    """
    return np.array([counts[split.train.items].mean() for split in splits])


def history_lengths(splits: Sequence[UserSplit]) -> NDArray[np.float64]:
    """How many items of each user are known at test time: float64 ``[U]``."""
    lengths = [len(split.train) + len(split.validation) for split in splits]
    return np.array(lengths, dtype=np.float64)


def by_thirds(
    trait: NDArray[np.float64],
    utility: NDArray[np.float64],
    names: tuple[str, str, str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Thirds:
    """Compute the utility of the thirds of users, ordered by a trait.

    Args:
        trait: float64 ``[U]``; users of equal trait are ordered at random.
        utility: float64 ``[U]``.
        names: of the thirds, lowest trait first.
        resamples: bootstrap resamples of the users of each third.
        seed: seeds the resampling and the order of equal users.

    Raises:
        DataError: fewer than three users, or another number of utilities.
    """
    if len(trait) != len(utility) or len(trait) < len(names):
        raise DataError(
            f"thirds need at least three users with a trait each, got {len(trait)} traits and "
            f"{len(utility)} utilities; use more users"
        )
    chance = np.random.default_rng([seed, TIE_STREAM]).random(len(trait))
    group = np.empty(len(trait), dtype=np.int64)
    for number, part in enumerate(np.array_split(np.lexsort((chance, trait)), len(names))):
        group[part] = number
    means = group_means(utility[:, None], group, resamples=resamples, seed=seed)
    groups = tuple(
        GroupUtility(name, int(means.sizes[number]), means.interval(number))
        for number, name in enumerate(names)
    )
    gap = float(means.means[-1, 0] - means.means[0, 0])
    return Thirds(groups, percentile_interval(gap, means.drawn[:, -1, 0] - means.drawn[:, 0, 0]))

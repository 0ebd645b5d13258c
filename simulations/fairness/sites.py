"""Which sites are served worse than others, and whether chance alone would do that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from simulations.evaluation.intervals import RESAMPLES, Interval
from simulations.fairness.groups import GroupUtility
from simulations.fairness.user_intervals import Floats, group_means, percentile_interval

CHANCE_STREAM = 0x6465616C  # keeps the dealing of users apart from other streams of a seed
_CELLS_PER_BATCH = 2_000_000


@dataclass(frozen=True)
class SiteReport:
    """Utility per site.

    Attributes:
        sites: in the order of the partition; sites without an evaluated user are absent.
        worst_site: name of the site with the lowest mean.
        spread: highest minus lowest mean. Resampling adds noise to every site, so that its
            interval leans upwards; `chance` is the figure to judge it by.
        chance: the spread if the users were dealt to sites of these sizes at random: mean
            and 95% band.
    """

    sites: tuple[GroupUtility, ...]
    worst_site: str
    spread: Interval
    chance: Interval


def site_utility(
    site_names: Sequence[str],
    site_of_user: NDArray[np.int64],
    utility: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SiteReport:
    """Compute the utility per site, the worst site and the spread.

    Args:
        site_names: S names in the order of the partition.
        site_of_user: int64 ``[U]``, each user's place in `site_names`.
        utility: float64 ``[U]``.
        resamples: resamples of the users of each site, and deals at random.
        seed: seeds both.

    Raises:
        DataError: not one site per user, or no user.
    """
    if len(site_of_user) != len(utility) or len(utility) == 0:
        raise DataError(
            f"utility per site needs one site per user, got {len(site_of_user)} sites for "
            f"{len(utility)} users; take the assignment from the partition of the same users"
        )
    present, group = np.unique(site_of_user, return_inverse=True)
    means = group_means(utility[:, None], group, resamples=resamples, seed=seed)
    sites = tuple(
        GroupUtility(site_names[site], int(means.sizes[number]), means.interval(number))
        for number, site in enumerate(present)
    )
    dealt = _dealt_spreads(utility, means.sizes, resamples, seed)
    return SiteReport(
        sites=sites,
        worst_site=sites[int(means.means[:, 0].argmin())].group,
        spread=percentile_interval(float(np.ptp(means.means)), np.ptp(means.drawn[..., 0], axis=1)),
        chance=percentile_interval(float(dealt.mean()), dealt),
    )


def _dealt_spreads(utility: Floats, sizes: NDArray[np.int64], deals: int, seed: int) -> Floats:
    """float64 ``[deals]``: the spread of site means after users were dealt at random."""
    rng = np.random.default_rng([seed, CHANCE_STREAM])
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    at_once, spreads = max(1, _CELLS_PER_BATCH // len(utility)), []
    for start in range(0, deals, at_once):
        rows = np.broadcast_to(utility, (min(at_once, deals - start), len(utility)))
        dealt = rng.permuted(rows, axis=1)
        spreads.append(np.ptp(np.add.reduceat(dealt, starts, axis=1) / sizes, axis=1))
    return np.concatenate(spreads)

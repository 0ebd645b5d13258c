"""Popularity under user-level differential privacy: the floor of every private row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from dp_accounting import get_sigma_gaussian
from numpy.typing import NDArray

from common.errors import CalibrationError
from common.holdout import UserSplit
from common.randomness import RandomSource, secure_source
from simulations.baselines.popularity import constant_scorer
from simulations.evaluation.full_ranking import (
    PerUser,
    Scorer,
    Stage,
    evaluate_scorer,
    mean_over_draws,
)

NoiseForm = Literal["central", "local"]
NOISE_DRAWS = 5


def unit_popularity(splits: Sequence[UserSplit], items: int) -> NDArray[np.float64]:
    """Sum the users' train indicator vectors, each scaled to L2 norm 1: float64[V].

    Guarantee: the sum's L2 sensitivity is 1 when one user is added or removed, whatever the
    number of their interactions. A user without train items adds the zero vector.

    Args:
        splits: one per user; only the train part is read.
        items: V, size of the catalogue.

    Returns:
        float64[V].
    """
    total = np.zeros(items)
    for split in splits:
        mine = np.unique(split.train.items)
        if len(mine):
            total[mine] += 1.0 / math.sqrt(len(mine))
    return total


def release_deviation(epsilon: float, delta: float, form: NoiseForm, sites: int) -> float:
    """Compute the standard deviation of the noise on the summed popularity.

    The noise of one release is exact for the Gaussian mechanism at sensitivity 1 (Balle &
    Wang, 2018). `central`: one draw on the sum over all users, by a trusted server.
    `local`: every site adds the noise in full, so the sum carries √sites times as much.

    Args:
        epsilon: of each user, add/remove; positive.
        delta: of each user, in (0, 1).
        form: who adds the noise.
        sites: number of sites that add noise in the `local` form.

    Returns:
        The standard deviation of each coordinate of the sum.

    Raises:
        CalibrationError: ε or δ is out of range, or there is no site.
    """
    if not (epsilon > 0 and math.isfinite(epsilon) and 0 < delta < 1 and sites >= 1):
        raise CalibrationError(
            f"DP-Pop needs a finite ε > 0, δ in (0, 1) and at least one site, got ε={epsilon}, "
            f"δ={delta}, {sites} sites; set privacy.target_epsilon and privacy.target_delta"
        )
    sigma = float(get_sigma_gaussian(epsilon, delta))
    return sigma * math.sqrt(sites) if form == "local" else sigma


def popularity_release(
    popularity: NDArray[np.float64], deviation: float, source: RandomSource | None = None
) -> NDArray[np.float64]:
    """Add Gaussian noise to the summed popularity: one draw of the release, float64[V].

    Args:
        popularity: float64[V] from `unit_popularity`.
        deviation: from `release_deviation`.
        source: the noise; the operating system's cryptographic source when left out.

    Returns:
        float64[V]; may be negative.
    """
    noise = (source or secure_source()).normal(len(popularity))
    return popularity + deviation * noise


def metrics_over_draws(
    popularity: NDArray[np.float64],
    deviation: float,
    to_scorer: Callable[[NDArray[np.float64]], Scorer],
    splits: Sequence[UserSplit],
    stage: Stage,
    draws: int = NOISE_DRAWS,
) -> PerUser:
    """Evaluate what `to_scorer` makes of a noisy release, each user averaged over draws."""
    releases = (popularity_release(popularity, deviation) for _ in range(draws))
    return mean_over_draws(
        [evaluate_scorer(to_scorer(release), splits, stage) for release in releases]
    )


def dp_popularity_metrics(
    splits: Sequence[UserSplit],
    items: int,
    stage: Stage,
    *,
    epsilon: float,
    delta: float,
    form: NoiseForm,
    sites: int,
    draws: int = NOISE_DRAWS,
) -> PerUser:
    """Evaluate DP-Pop: items ordered by one noisy release of `unit_popularity`.

    Args:
        splits: one per user; the train part is released, the stage's part ranked.
        items: V, size of the catalogue.
        stage: `validation` or `test`.
        epsilon: the whole budget of the release, per user.
        delta: per user.
        form: `central` or `local`.
        sites: number of sites (used by `local` only).
        draws: noise draws to average over; each would be a release of its own, in the lab
            they only make the mean exact.

    Returns:
        The metrics of each user, averaged over the draws.
    """
    deviation = release_deviation(epsilon, delta, form, sites)
    popularity = unit_popularity(splits, items)

    def to_scorer(release: NDArray[np.float64]) -> Scorer:
        return constant_scorer(release.astype(np.float32))

    return metrics_over_draws(popularity, deviation, to_scorer, splits, stage, draws)

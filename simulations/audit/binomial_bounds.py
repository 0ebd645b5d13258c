"""Exact bounds for binomial counts: what every gate that counts events rests on."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from common.errors import PrivacyError

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]


def check_alpha(alpha: float) -> None:
    """Refuse an α that is no probability of a false alarm.

    Raises:
        PrivacyError: α outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise PrivacyError(
            f"alpha of an audit's check must be in (0, 1), got {alpha}; 0.05 is usual"
        )


def upper_bound(count: int, trials: int, alpha: float) -> float:
    """One-sided Clopper–Pearson upper bound on a probability, at confidence 1 − α.

    Args:
        count: events seen, 0 … trials.
        trials: independent trials; 0 bounds nothing.
        alpha: probability that the truth is above the bound.

    Returns:
        A probability; 1 where every trial was an event.
    """
    if count >= trials:
        return 1.0
    return float(beta.ppf(1 - alpha, count + 1, trials - count))


def lower_bound(count: int, trials: int, alpha: float) -> float:
    """One-sided Clopper–Pearson lower bound on a probability, at confidence 1 − α."""
    return 1 - upper_bound(trials - count, trials, alpha)


def two_sided_p_value(count: int, trials: int, probability: float) -> float:
    """Exact p-value of `count` under Binomial(trials, probability): twice the lesser tail."""
    tails = binom.cdf(count, trials, probability), binom.sf(count - 1, trials, probability)
    return float(min(1.0, 2 * min(tails)))

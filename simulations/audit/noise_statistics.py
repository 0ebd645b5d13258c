"""A2: the noise that was added, its size and its independence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, t

from common.errors import PrivacyError
from simulations.audit.binomial_bounds import Floats, check_alpha
from simulations.audit.finding import Finding

ALPHA = 0.001
"""Of the noise's interval: 99.9%."""


@dataclass(frozen=True, eq=False)
class NoiseDraws:
    """Noise alone, taken out of replayed releases.

    Attributes:
        draws: [K, d], K releases (steps or sites) of d coordinates.
        standard_deviation: σC that every coordinate should have.
        what: which releases, for the reader: "the steps of a site", "the sites of a round".
    """

    draws: Floats
    standard_deviation: float
    what: str


def scale_interval(count: int, alpha: float) -> tuple[float, float]:
    """Interval that (sample ÷ true) standard deviation lies in with probability 1 − α.

    Args:
        count: independent normal draws, of mean zero.
        alpha: probability of a false alarm.
    """
    low, high = chi2.ppf([alpha / 2, 1 - alpha / 2], count)
    return math.sqrt(low / count), math.sqrt(high / count)


def noise_scale(noise: NoiseDraws, alpha: float = ALPHA) -> Finding:
    """The standard deviation of all draws against its χ² interval around σC."""
    _check(noise, alpha, least_rows=1)
    ratio = float(np.sqrt(np.mean(np.square(noise.draws)))) / noise.standard_deviation
    low, high = scale_interval(noise.draws.size, alpha)
    return Finding(
        check="A2",
        name="noise.scale",
        view="one step",
        gate=True,
        verdict="pass" if low <= ratio <= high else "fail",
        reason=(
            f"the noise of {noise.what} has {ratio:.4f} of the declared standard deviation; "
            f"{low:.4f} to {high:.4f} is what {noise.draws.size} draws allow"
        ),
        statistic={"ratio": ratio, "lowest": low, "highest": high, "draws": noise.draws.size},
        alpha=alpha,
        confidence=1 - alpha,
        power=(
            f"noise below {low / high:.4f} or above {high / low:.4f} of σC is all but certain "
            "to show"
        ),
    )


def noise_independence(noise: NoiseDraws, alpha: float = ALPHA) -> Finding:
    """No two releases' noise is correlated: Student's t of every pair, Bonferroni over pairs.

    The same noise twice, as a shared seed gives it, has a correlation of 1.
    """
    _check(noise, alpha, least_rows=2)
    rows, width = noise.draws.shape
    norms = np.linalg.norm(noise.draws, axis=1, keepdims=True)
    unit = np.divide(noise.draws, norms, out=np.zeros_like(noise.draws), where=norms > 0)
    first, second = np.triu_indices(rows, 1)
    correlation = np.abs((unit @ unit.T)[first, second])
    worst = int(correlation.argmax())
    largest = min(1.0, float(correlation[worst]))
    quantile = float(t.isf(alpha / (2 * len(first)), width - 1))
    allowed = quantile / math.sqrt(width - 1 + quantile**2)
    return Finding(
        check="A2",
        name="noise.independence",
        view="one step",
        gate=True,
        verdict="pass" if largest <= allowed else "fail",
        reason=(
            f"the largest correlation of noise between {noise.what} is {largest:.4f} (numbers "
            f"{first[worst]} and {second[worst]}); chance allows {allowed:.4f}"
        ),
        statistic={"largest": largest, "allowed": allowed, "pairs": len(first), "width": width},
        alpha=alpha,
        confidence=1 - alpha,
        power=f"a correlation above {2 * allowed:.4f} is all but certain to show",
    )


def _check(noise: NoiseDraws, alpha: float, least_rows: int) -> None:
    check_alpha(alpha)
    shape = noise.draws.shape
    if len(shape) != 2 or shape[0] < least_rows or shape[1] < 2:
        raise PrivacyError(
            f"noise of {noise.what} must be [releases >= {least_rows}, coordinates >= 2], got "
            f"{shape}; replay more releases"
        )
    if not (np.isfinite(noise.draws).all() and noise.standard_deviation > 0):
        raise PrivacyError(
            f"noise of {noise.what} must be finite and its declared standard deviation positive "
            f"({noise.standard_deviation}); a release without noise has nothing to test"
        )

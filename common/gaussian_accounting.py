"""The exact ε of Gaussian releases that every unit takes part in.

Composed Gaussians are one Gaussian: releases with noise multipliers σᵢ cost exactly what
one release with 1/σ² = Σ 1/σᵢ² costs (the privacy losses are normal and add up), so that a
closed form replaces numerical composition.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from scipy.optimize import brentq
from scipy.special import log_ndtr

from common.errors import PrivacyError
from common.privacy_events import GaussianEvent


def composed_noise_multiplier(events: Iterable[GaussianEvent]) -> float:
    """The σ of the one Gaussian release that equals all of `events` together."""
    inverse = math.hypot(*(math.sqrt(event.count) / event.noise_multiplier for event in events))
    return 1 / inverse


def gaussian_delta(noise_multiplier: float, epsilon: float) -> float:
    """Smallest δ of one Gaussian release at `epsilon` (Balle & Wang 2018, Theorem 8).

    Args:
        noise_multiplier: σ, noise standard deviation ÷ L2 sensitivity.
        epsilon: ε, at least 0.
    """
    mu = 1 / noise_multiplier
    log_in = float(log_ndtr(mu / 2 - epsilon / mu))
    log_out = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    # Both terms can be astronomically close: subtract in the log domain.
    return -math.exp(log_in) * math.expm1(min(0.0, log_out - log_in))


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Smallest ε of one Gaussian release at `delta`, unit by unit, add or remove one.

    Args:
        noise_multiplier: σ, noise standard deviation ÷ L2 sensitivity.
        delta: δ in (0, 1).

    Returns:
        ε ≥ 0; inf where it passes what a float can hold.

    Raises:
        PrivacyError: δ outside (0, 1).
    """
    if not 0 < delta < 1:
        raise PrivacyError(f"delta must be in (0, 1), got {delta}; choose δ < 1/(number of units)")
    mu = 1 / noise_multiplier
    # Φ(μ/2 − ε/μ) ≤ δ suffices, and Φ(−t) ≤ exp(−t²/2).
    ceiling = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    if not math.isfinite(ceiling):
        return math.inf
    if gaussian_delta(noise_multiplier, 0.0) <= delta:
        return 0.0
    root = brentq(
        lambda epsilon: gaussian_delta(noise_multiplier, epsilon) - delta,
        0.0,
        ceiling,
        xtol=1e-13,
        rtol=1e-13,
        maxiter=500,
    )
    return float(root)

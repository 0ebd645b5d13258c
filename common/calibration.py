"""The noise that a privacy target asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from common.accounting import Accountant, epsilon
from common.errors import CalibrationError
from common.privacy_events import PrivacyEvent, SampledGaussianEvent

_TIGHTNESS = 0.995
_SMALLEST_SIGMA = 1e-3
_LARGEST_SIGMA = 1e9


def calibrate_noise_multiplier(
    *,
    target_epsilon: float,
    target_delta: float,
    sample_rate: float,
    steps: int,
    before: Sequence[PrivacyEvent] = (),
) -> float:
    """The smallest σ (to 0.5% of ε) with which `steps` sampled steps stay within the target.

    Args:
        target_epsilon: ε that `before` and the steps may cost together.
        target_delta: δ in (0, 1).
        sample_rate: q in (0, 1], Poisson sampling of units.
        steps: number of noised steps to be run, at least 1.
        before: everything else that the same ledger holds or will hold.

    Returns:
        σ with ε(before + steps) in [0.995 · target_epsilon, target_epsilon] by the ``prv``
        accountant, whose bound is an upper one. Where ε as a function of σ jumps over that
        interval (next to ε = 0, say) the smallest σ above the jump.

    Raises:
        CalibrationError: the target is not positive and finite, or `before` spends it.
        PrivacyError: sample_rate, steps or δ out of range.
    """
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise CalibrationError(
            f"target_epsilon must be positive and finite, got {target_epsilon}; "
            "a run without a privacy claim needs privacy.mode=none"
        )
    spent = epsilon(before, target_delta)
    if spent >= target_epsilon:
        raise CalibrationError(
            f"no noise multiplier reaches ε={target_epsilon:g} at δ={target_delta:g}: other "
            f"releases already cost ε={spent:.4g}; raise the target or give them more noise"
        )

    def cost(sigma: float, accountant: Accountant) -> float:
        event = SampledGaussianEvent(sigma, sample_rate, steps)
        return epsilon((*before, event), target_delta, accountant)

    # RDP is quick and never below PRV: its σ is large enough, and a good place to start.
    reachable = cost(_LARGEST_SIGMA, "prv") <= target_epsilon
    if not reachable:
        raise CalibrationError(
            f"no noise multiplier reaches ε={target_epsilon:g} at δ={target_delta:g} over "
            f"{steps} steps at sample_rate={sample_rate:g} (other releases: ε={spent:.4g}); "
            "raise the target or release less"
        )
    start = _bisect(lambda s: cost(s, "rdp"), target_epsilon, _SMALLEST_SIGMA, 1.0, 0.97)
    return _bisect(lambda s: cost(s, "prv"), target_epsilon, _SMALLEST_SIGMA, start, _TIGHTNESS)


def _bisect(
    cost: Callable[[float], float], target: float, smallest: float, start: float, tightness: float
) -> float:
    """Smallest σ with cost(σ) in [tightness · target, target], for a falling `cost`."""
    high = start
    while cost(high) > target and high < _LARGEST_SIGMA:
        high *= 2
    low = high / 1.25
    while low > smallest and (spent := cost(low)) <= target:
        if spent >= tightness * target:
            return low
        high, low = low, low / 1.5
    while (spent := cost(high)) < tightness * target and high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        if cost(middle) <= target:
            high = middle
        else:
            low = middle
    return high

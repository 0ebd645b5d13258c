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
    spent = spent_before(target_epsilon, target_delta, before)

    def cost(sigma: float, accountant: Accountant) -> float:
        event = SampledGaussianEvent(sigma, sample_rate, steps)
        return epsilon((*before, event), target_delta, accountant)

    if not cost(_LARGEST_SIGMA, "prv") <= target_epsilon:
        raise CalibrationError(
            f"no noise multiplier reaches ε={target_epsilon:g} at δ={target_delta:g} over "
            f"{steps} steps at sample_rate={sample_rate:g} (other releases: ε={spent:.4g}); "
            "raise the target or release less"
        )
    # RDP is quick and never below PRV: its σ is large enough, and a good place to start.
    start = _search(lambda sigma: cost(sigma, "rdp"), target_epsilon, 1.0, 0.97)
    return _search(lambda sigma: cost(sigma, "prv"), target_epsilon, start, _TIGHTNESS)


def spent_before(
    target_epsilon: float, target_delta: float, before: Sequence[PrivacyEvent]
) -> float:
    """ε that `before` costs, which must leave something of the target.

    Raises:
        CalibrationError: the target is not positive and finite, or `before` spends it.
    """
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise CalibrationError(
            f"target_epsilon must be positive and finite, got {target_epsilon}; "
            "a run without a privacy claim needs privacy.mode=none"
        )
    spent = epsilon(before, target_delta)
    if spent >= target_epsilon:
        raise CalibrationError(
            f"nothing is left of ε={target_epsilon:g} at δ={target_delta:g}: other "
            f"releases already cost ε={spent:.4g}; raise the target or give them more noise"
        )
    return spent


def _search(cost: Callable[[float], float], target: float, start: float, tightness: float) -> float:
    """Smallest σ with cost(σ) in [tightness · target, target], for a falling `cost`."""
    high = start
    while (at_high := cost(high)) > target and high < _LARGEST_SIGMA:
        high *= 2
    low, at_low = high, at_high
    while at_low <= target and low > _SMALLEST_SIGMA:
        high, at_high, low = low, at_low, low / 1.5
        at_low = cost(low)
    while at_high < tightness * target and high / low > 1 + 1e-9:
        middle = _between(low, at_low, high, at_high, (1 + tightness) / 2 * target)
        at_middle = cost(middle)
        if at_middle <= target:
            high, at_high = middle, at_middle
        else:
            low, at_low = middle, at_middle
    return high


def _between(low: float, at_low: float, high: float, at_high: float, aim: float) -> float:
    """Where a power law through both ends meets `aim`, kept off the ends."""
    share = 0.5
    if at_high > 0 and math.isfinite(at_low):
        share = math.log(at_low / aim) / math.log(at_low / at_high)
    return low * math.pow(high / low, min(max(share, 0.1), 0.9))

"""What a privacy target affords at a given noise: how many steps, or how large a sample.

Both searches start from RDP, which is quick and never below PRV, and end on the ``prv``
accountant, which is what the ledger enforces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from common.accounting import Accountant, epsilon
from common.calibration import spent_before
from common.errors import CalibrationError
from common.privacy_events import PrivacyEvent, SampledGaussianEvent

_TIGHTNESS = 0.995
_MOST_STEPS = 10**9
_SMALLEST_RATE = 1e-9


def calibrate_steps(
    *,
    target_epsilon: float,
    target_delta: float,
    noise_multiplier: float,
    sample_rate: float,
    before: Sequence[PrivacyEvent] = (),
) -> int:
    """The most sampled steps that stay within the target, after all of `before`.

    Rounds are steps ÷ `federation.local_steps`, rounded down.

    Args:
        target_epsilon: ε that `before` and the steps may cost together.
        target_delta: δ in (0, 1).
        noise_multiplier: σ of each step.
        sample_rate: q in (0, 1], Poisson sampling of units.
        before: everything else that the same ledger holds or will hold.

    Returns:
        n ≥ 1 with ε(before + n steps) ≤ target_epsilon < ε(before + n+1 steps), ``prv``.

    Raises:
        CalibrationError: the target is not positive and finite, `before` spends it, not even
            one step fits, or more than 10^9 steps do.
        PrivacyError: noise_multiplier, sample_rate or δ out of range.
    """
    spent_before(target_epsilon, target_delta, before)

    def fits(steps: int, accountant: Accountant) -> bool:
        event = SampledGaussianEvent(noise_multiplier, sample_rate, steps)
        return epsilon((*before, event), target_delta, accountant) <= target_epsilon

    if not fits(1, "prv"):
        raise CalibrationError(
            f"not even one step fits ε={target_epsilon:g} at δ={target_delta:g} with "
            f"noise_multiplier={noise_multiplier:g} and sample_rate={sample_rate:g}; "
            "raise the target, add noise or sample fewer units"
        )
    start = _most(lambda steps: fits(steps, "rdp"), 1) if fits(1, "rdp") else 1
    most = _most(lambda steps: fits(steps, "prv"), start)
    if most >= _MOST_STEPS:
        raise CalibrationError(
            f"more than {_MOST_STEPS:.0e} steps fit ε={target_epsilon:g} at "
            f"δ={target_delta:g} with noise_multiplier={noise_multiplier:g}; "
            "lower the noise or the target"
        )
    return most


def calibrate_sample_rate(
    *,
    target_epsilon: float,
    target_delta: float,
    noise_multiplier: float,
    steps: int,
    before: Sequence[PrivacyEvent] = (),
) -> float:
    """The largest q (to 0.5% of ε) with which `steps` steps stay within the target.

    Args:
        target_epsilon: ε that `before` and the steps may cost together.
        target_delta: δ in (0, 1).
        noise_multiplier: σ of each step.
        steps: number of noised steps to be run, at least 1.
        before: everything else that the same ledger holds or will hold.

    Returns:
        q with ε(before + steps) in [0.995 · target_epsilon, target_epsilon] by the ``prv``
        accountant; 1 where every unit may take part in every step. Where ε as a function of
        q jumps over that interval, q is the largest below the jump.

    Raises:
        CalibrationError: the target is not positive and finite, `before` spends it, or even
            q = 1e-9 passes it.
        PrivacyError: noise_multiplier, steps or δ out of range.
    """
    spent_before(target_epsilon, target_delta, before)

    def cost(rate: float, accountant: Accountant = "prv") -> float:
        event = SampledGaussianEvent(noise_multiplier, rate, steps)
        return epsilon((*before, event), target_delta, accountant)

    if cost(1.0) <= target_epsilon:
        return 1.0
    if not cost(_SMALLEST_RATE) <= target_epsilon:
        raise CalibrationError(
            f"no sample_rate reaches ε={target_epsilon:g} at δ={target_delta:g} over {steps} "
            f"steps with noise_multiplier={noise_multiplier:g}; "
            "raise the target, add noise or take fewer steps"
        )
    low = _SMALLEST_RATE
    if cost(low, "rdp") <= target_epsilon:
        low, _ = _narrowed(lambda rate: cost(rate, "rdp"), low, 1.0, target_epsilon)
    low, _ = _narrowed(cost, low, 1.0, target_epsilon)
    return low


def _most(fits: Callable[[int], bool], start: int) -> int:
    """The last n from `start` (which fits) on that fits, before one that does not."""
    low, high = start, start + 1
    while high < _MOST_STEPS and fits(high):
        low, high = high, high + 2 * (high - start) + 1
    high = min(high, _MOST_STEPS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low if low + 1 < _MOST_STEPS else _MOST_STEPS


def _narrowed(
    cost: Callable[[float], float], low: float, high: float, target: float
) -> tuple[float, float]:
    """The interval [low, high] narrowed, on a logarithmic scale, to where `cost` passes target."""
    at_low = cost(low)
    width = 1.05  # near RDP's answer first: PRV's is seldom far above it
    while low * width < high:
        at_next = cost(low * width)
        if at_next > target:
            high = low * width
            break
        low, at_low, width = low * width, at_next, width * width
    while at_low < _TIGHTNESS * target and high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        at_middle = cost(middle)
        if at_middle <= target:
            low, at_low = middle, at_middle
        else:
            high = middle
    return low, high

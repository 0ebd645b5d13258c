"""The self-test of a site's part in a sum: its share of the noise, and what rounding does."""

from __future__ import annotations

import numpy as np
import torch

from client.self_test_statistics import check_uncorrelated, check_variance, twice
from common.discrete_noise import masked_sum_input
from common.errors import SelfTestError
from common.flat_adapter import Floats
from common.randomness import RandomSource
from common.secagg.modular import to_signed
from common.secagg.quantisation import QuantisationPlan, quantise

_FALSE_ALARM = 1e-4  # of one try; a failed check is repeated once
_LEAST_NUMBERS = 2_000
_MOST_ROUNDING = 0.01  # of the noise's standard deviation


def check_share(plan: QuantisationPlan, source: RandomSource) -> float:
    """Draws shares on a part that is zero and rounds made-up parts; no user's data.

    Args:
        plan: the run's plan.
        source: the site's randomness, as the run will use it.

    Returns:
        The share's measured standard deviation ÷ the planned one.

    Raises:
        SelfTestError: the share is not what the plan says, two shares correlate, or rounding
            to the grid moves a number by more than 1% of the noise.
    """
    _check_rounding(plan, source)
    return twice(lambda: _check_noise(plan, source))


def _check_rounding(plan: QuantisationPlan, source: RandomSource) -> None:
    values = plan.max_grad_norm * source.normal(plan.coordinates)
    integers = quantise(values, source.uniform(plan.coordinates), plan)
    inside = np.abs(values) < plan.clamp * plan.grid_step
    error = np.abs(integers * plan.grid_step - values)[inside].max(initial=0.0)
    deviation = plan.noise_multiplier * plan.max_grad_norm
    if not error <= _MOST_ROUNDING * deviation:
        raise SelfTestError(
            f"self-test: rounding to the grid moves a number by {error:.3g}, more than 1% of the "
            f"noise's standard deviation {deviation:.3g}; refusing to train"
        )


def _check_noise(plan: QuantisationPlan, source: RandomSource) -> float:
    draws = -(-_LEAST_NUMBERS // plan.coordinates)
    first, second = (
        torch.from_numpy(np.concatenate([_share(plan, source) for _ in range(draws)]))
        for _ in range(2)
    )
    check_variance("a site's part of the sum", first, _FALSE_ALARM)
    check_uncorrelated(first, second)
    return float(first.square().mean().sqrt())


def _share(plan: QuantisationPlan, source: RandomSource) -> Floats:
    part = masked_sum_input(np.zeros(plan.coordinates), plan, source)
    return to_signed(part, plan.modulus_bits).astype(np.float64) / plan.share_std

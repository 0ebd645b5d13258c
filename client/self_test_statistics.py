"""The self-test's statistical checks: noise variance and correlation, Poisson sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from scipy.stats import chi2

from client.sampling import poisson_sample
from common.errors import SelfTestError
from common.randomness import RandomSource

_SAMPLER_STEPS = 400
_NOISE_NUMBERS = 20_000
_MOST_NOISE_STEPS = 2_000


def twice(check: Callable[[], float]) -> float:
    """A statistical check may err once; an error that is real shows again."""
    try:
        return check()
    except SelfTestError:
        return check()


def noise_steps(numbers: int) -> int:
    """How many empty steps of a model with so many trained numbers tell its noise well."""
    return max(2, min(math.ceil(_NOISE_NUMBERS / numbers), _MOST_NOISE_STEPS))


def check_noise(draws: Mapping[str, torch.Tensor]) -> float:
    """Noise ÷ σC of every tensor, each ``[steps, numel]``: its measured standard deviation."""
    for name, draw in draws.items():
        check_variance(name, draw, 1e-3 / (len(draws) + 1))
    pooled = torch.cat(list(draws.values()), dim=1)
    check_variance("all tensors", pooled, 1e-3)
    check_uncorrelated(pooled[0], pooled[1])
    return float(pooled.square().mean().sqrt())


def check_variance(name: str, draw: torch.Tensor, false_alarm: float) -> None:
    """Noise ÷ σC must have variance 1 within its two-sided χ² interval."""
    total = float(draw.square().sum())
    low, high = chi2.ppf([false_alarm / 2, 1 - false_alarm / 2], draw.numel())
    if not low <= total <= high:
        raise SelfTestError(
            f"self-test: noise on {name} has {math.sqrt(total / draw.numel()):.4f} of its declared "
            f"standard deviation over {draw.numel()} numbers; refusing to train"
        )


def check_uncorrelated(first: torch.Tensor, second: torch.Tensor) -> None:
    """The noise of two steps must not correlate beyond 4 standard errors.

    Args:
        first: noise of one step, [n]; fewer than 100 numbers are too few to tell.
        second: noise of another step, [n].
    """
    count = len(first)
    correlation = float((first * second).sum() / (first.norm() * second.norm()))
    if count >= 100 and not abs(correlation) * math.sqrt(count) <= 4:
        raise SelfTestError(
            f"self-test: the noise of two steps correlates ({correlation:.4f}); refusing to train"
        )


def check_sampler(sample_rate: float, source: RandomSource) -> float:
    """Observed share of sampled units; inclusion and batch-size variance as Poisson's.

    Within 4.5 and 5.5 standard errors (the second has a heavier tail).
    """
    units = min(max(100, math.ceil(10 / sample_rate)), 20_000)
    sizes = [len(poisson_sample(units, sample_rate, source)) for _ in range(_SAMPLER_STEPS)]
    share = sum(sizes) / (units * _SAMPLER_STEPS)
    if sample_rate == 1:
        ok = share == 1
    else:
        variance = units * sample_rate * (1 - sample_rate)
        spread = sum((size - units * sample_rate) ** 2 for size in sizes) / variance
        kurtosis = (1 - 6 * sample_rate * (1 - sample_rate)) / variance
        share_error = math.sqrt(variance / _SAMPLER_STEPS) / units
        spread_error = math.sqrt(_SAMPLER_STEPS * (2 + kurtosis))
        ok = (
            abs(share - sample_rate) <= 4.5 * share_error
            and abs(spread - _SAMPLER_STEPS) <= 5.5 * spread_error
        )
    if not ok:
        raise SelfTestError(
            f"self-test: the sampler is not Poisson at rate {sample_rate:g} (observed "
            f"{share:.5f}, sizes {min(sizes)} to {max(sizes)} of {units}); refusing to train"
        )
    return share

"""Exact discrete Gaussian noise from the site's cryptographic source, vectorised.

The sampler is Karney's (2016, "Sampling exactly from the normal distribution", Algorithm D,
here for an integer σ): |k| = jσ + i with j from exp(−j²/2) by rejection and i uniform below σ,
accepted with probability exp(−i(2jσ + i)/2σ²). All it needs are fair integers and events of
probability exp(−p/q) for integers p and q.

These events are exact: 64 random bits are compared with a float64 value of exp(−p/q) whose
relative error is far below the margin of 2^-40; when they fall within the margin (once in
10^12 draws) the decision is made with decimals, whose exp is correctly rounded, and with
further random bits until it is certain. So no float ever shapes the distribution: the noise
*is* discrete Gaussian, as `common.secagg.accounting` demands, up to ChaCha20 being
distinguishable from random. Time taken depends on the values drawn; nothing outside the site
sees it, since the masked vector leaves after a whole training step.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

import numpy as np
import numpy.typing as npt

from common.randomness import Integers, RandomSource
from common.secagg.modular import Residues, from_signed
from common.secagg.quantisation import (
    LARGEST_SHARE_STD,
    Floats,
    QuantisationPlan,
    quantise,
)

Booleans = npt.NDArray[np.bool_]

_MARGIN = 2.0**-40


def masked_sum_input(values: Floats, plan: QuantisationPlan, source: RandomSource) -> Residues:
    """A site's release for secure aggregation: quantised, with its share of the noise.

    Guarantee: the sum of these over at least `plan.min_honest` honest sites is the mechanism
    of ``plan.event``, for units whose clipped contributions have L2 norm at most C.

    Args:
        values: float64 [d], the sum of the site's clipped units; zeros if there are none.
        plan: the run's plan.
        source: the site's randomness.

    Returns:
        uint64 [d] modulo 2^k. One call per round: a second one is a second release.
    """
    integers = quantise(values, source.uniform(len(values)), plan)
    noise = discrete_gaussian(plan.share_std, plan.coordinates, source)
    return from_signed(integers + noise, plan.modulus_bits)


def discrete_gaussian(std: int, n: int, source: RandomSource) -> Integers:
    """`n` draws with P(k) proportional to exp(−k²/2·std²), exactly. Returns: int64 [n].

    Raises:
        ValueError: std is not in [1, 2^28].
    """
    if not 1 <= std <= LARGEST_SHARE_STD:
        raise ValueError(f"std must be in [1, 2^28], got {std}")
    accepted = [np.empty(0, np.int64)]
    missing = n
    while missing > 0:
        accepted.append(_attempt(std, missing + missing // 2 + 8, source)[:missing])
        missing -= len(accepted[-1])
    return np.concatenate(accepted)


def _attempt(std: int, n: int, source: RandomSource) -> Integers:
    """Those of `n` proposals that are accepted."""
    blocks = _half_gaussian_blocks(n, source)
    offsets = source.integers(std, len(blocks))
    negative = source.integers(2, len(blocks)).astype(bool)
    # exp(−(k² − j²σ²)/2σ²), with k = jσ + i; int64 holds it for all j that ever occur (< 64)
    accept = happens_exp(offsets * (2 * blocks * std + offsets), 2 * std * std, source)
    magnitude = blocks * std + offsets
    accept &= ~(negative & (magnitude == 0))  # zero has one sign
    return np.where(negative, -magnitude, magnitude)[accept]


def _half_gaussian_blocks(n: int, source: RandomSource) -> Integers:
    """Those of `n` proposals j ≥ 0 that are accepted with P(j) proportional to exp(−j²/2)."""
    blocks = np.zeros(n, np.int64)
    running = np.arange(n)
    while running.size:  # geometric: one more with probability exp(−½)
        running = running[happens_exp(np.ones(running.size, np.int64), 2, source)]
        blocks[running] += 1
    return blocks[happens_exp(blocks * (blocks - 1), 2, source)]


def happens_exp(numerators: Integers, denominator: int, source: RandomSource) -> Booleans:
    """Independent events of probability exp(−numerator/denominator), exactly.

    Args:
        numerators: int64 [n], non-negative.
        denominator: positive.
        source: randomness.

    Returns:
        bool [n].
    """
    high, low = source.integers(2**32, len(numerators)), source.integers(2**32, len(numerators))
    uniform = high * 2.0**-32 + low * 2.0**-64  # [0, 1], within 2^-53 of the 64 bits, relatively
    # Past 700 the event is below 1e-300: no need to tell those apart here.
    probability = np.exp(-np.minimum(numerators / denominator, 700.0))
    happens = uniform < probability
    gap = np.abs(uniform - probability)
    unsure = gap <= probability * _MARGIN + 2.0**-63
    for at in np.flatnonzero(unsure):
        bits = int(high[at]) << 32 | int(low[at])
        happens[at] = _decide(bits, 64, int(numerators[at]), denominator, source)
    return happens


def _decide(bits: int, count: int, numerator: int, denominator: int, source: RandomSource) -> bool:
    """Whether a uniform number that starts with `bits` is below exp(−numerator/denominator)."""
    while True:
        context = Context(prec=count, rounding=ROUND_HALF_EVEN, Emin=-(10**9), Emax=10**9)
        ratio = context.divide(Decimal(-numerator), Decimal(denominator))
        probability = context.exp(ratio)
        # The ratio is wrong by half a unit in its last place, exp by half a unit more.
        error = context.multiply(probability, Decimal(numerator // denominator + 2))
        error = context.scaleb(error, 2 - count)
        step = context.power(Decimal(2), -count)
        lowest = context.multiply(Decimal(bits), step)
        rounding = context.scaleb(Decimal(1), 3 - count)
        if context.add(lowest, context.add(step, rounding)) < context.subtract(probability, error):
            return True
        if context.subtract(lowest, rounding) > context.add(probability, error):
            return False
        word = int(source.integers(2**32, 1)[0])
        bits, count = bits << 32 | word, count + 32

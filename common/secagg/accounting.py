"""Why a sum of discrete Gaussians costs what one, hardly smaller, Gaussian costs.

Each of m honest sites adds discrete Gaussian noise D_S on the integers (pmf at k
proportional to exp(−k²/2S²), S = `share_std`) to an integer vector of d coordinates, and the
masked sum shows only the total. Write φ_s for the normal density and, for s ≥ 1,

    θ(s) = 2.1·exp(−2π²s²),     λ(s) = −log(1 − θ(s)).

Poisson summation: for every real y, Σ_k φ_s(k − y) over the integers k is within 1 ± θ(s).

1. *Sum* (Kairouz, Liu & Steinke 2021, the argument of their Theorem on sums of discrete
   Gaussians): D_S is within e^±λ(S) of φ_S pointwise, and each further summand adds at most
   λ(S) + λ(S/√2) to the logarithm, since φ_a(j)·φ_S(k−j) = φ_{√(a²+S²)}(k)·φ_c(j − μ) with
   c² = a²S²/(a²+S²) ≥ S²/2. The total of m is within e^±(mλ(S) + (m−1)λ(S/√2)) of φ_{S√m}.
2. *Post-processing* (Peikert 2010, Theorem 3.1, convolution): release x + N(0, mS² − r²) and
   round every coordinate y to k with probability φ_r(k − y) ÷ Σ_j φ_r(j − y). The result is
   within e^±λ(r) of φ_{S√m}(k − x). So it is a post-processed *continuous* Gaussian.

Together: the released sum is pointwise within e^±η, η = d·(λ(r) + mλ(S) + (m−1)λ(S/√2)), of a
post-processing of the Gaussian mechanism with variance mS² − r², for the same integer input.
Hence whatever holds for that Gaussian, with Poisson sampling, under adaptive composition,
for every accountant (PRV, RDP and PLD alike), holds for the sum with ε + 2·Ση and δ·e^Ση.
At r = 3 and d = 25,000, η is below 1e-71: the whole price is r² taken off the variance.

Noise of further sites, of survivors beyond m, and the reduction modulo 2^k are independent
of the data given that sum: post-processing, never credited.
"""

from __future__ import annotations

import math

from common.errors import PrivacyError

# Variance given up to pass from the integers to the reals (r² of step 2).
_ROUNDING_VARIANCE = 9.0
_LARGEST_LOG_RATIO = 2.0**-50
LEAST_SHARE_STD = 4


def equivalent_noise_multiplier(share_std: int, min_honest: int, sensitivity: float) -> float:
    """σ of the continuous Gaussian mechanism whose post-processing the sum is.

    Args:
        share_std: S, parameter of each honest site's discrete Gaussian, in grid steps.
        min_honest: m, number of sites whose noise is certainly in the sum.
        sensitivity: L2 distance between the integer sums of neighbouring data sets.

    Raises:
        PrivacyError: S below 4 grid steps, m below 1, or a sensitivity that is not positive
            and finite.
    """
    if share_std < LEAST_SHARE_STD or min_honest < 1:
        raise PrivacyError(
            f"discrete noise needs share_std >= {LEAST_SHARE_STD} grid steps and min_honest "
            f">= 1, got {share_std} and {min_honest}; choose a finer grid"
        )
    if not (math.isfinite(sensitivity) and sensitivity > 0):
        raise PrivacyError(f"sensitivity must be positive and finite, got {sensitivity}")
    variance = min_honest * share_std**2 - _ROUNDING_VARIANCE
    # Rounded down by more than the three float operations can have rounded it up.
    return math.sqrt(variance) / sensitivity * (1 - 2.0**-50)


def log_ratio(share_std: int, min_honest: int, coordinates: int, steps: int) -> float:
    """Upper bound on Ση over `steps` releases of `coordinates` numbers each.

    Raises:
        PrivacyError: the bound passes 2^-50; the grid is too coarse for this argument.
    """
    each = _lambda(math.sqrt(_ROUNDING_VARIANCE))
    each += min_honest * _lambda(share_std) + (min_honest - 1) * _lambda(share_std / math.sqrt(2))
    total = steps * coordinates * each * (1 + 2.0**-40)
    if not total <= _LARGEST_LOG_RATIO:
        raise PrivacyError(
            f"discrete noise of share_std={share_std} over {coordinates} coordinates and "
            f"{steps} steps is not close enough to a Gaussian; choose a finer grid"
        )
    return total


def _lambda(std: float) -> float:
    return -math.log1p(-2.1 * math.exp(-2 * math.pi**2 * std**2))

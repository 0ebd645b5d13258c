"""The best white-box score of a canary that owns one coordinate of the update."""

from __future__ import annotations

import numpy as np

from common.errors import PrivacyError
from simulations.audit.binomial_bounds import Floats


def dirac_scores(observed: Floats, noise_multiplier: float, sample_rate: float) -> Floats:
    """Log likelihood ratio of "in the data" to "not", by Neyman and Pearson the best score.

    A Dirac canary's gradient has one non-zero coordinate, clipped to C. In step t the noisy sum
    there is xₜ·C, xₜ from N(0, σ²) or, with probability q, from N(1, σ²):
    Σₜ log(1 − q + q·e^{(2xₜ−1) ÷ 2σ²}).

    Args:
        observed: [T, m] xₜ of each canary's coordinate, in multiples of C.
        noise_multiplier: claimed σ.
        sample_rate: claimed q in (0, 1].

    Returns:
        [m] scores.

    Raises:
        PrivacyError: σ or q that no mechanism has.
    """
    if not (noise_multiplier > 0 and 0 < sample_rate <= 1):
        raise PrivacyError(
            "a canary's score needs a claimed noise multiplier above 0 and a sample rate in "
            f"(0, 1], got {noise_multiplier} and {sample_rate}"
        )
    exponent = (2 * observed - 1) / (2 * noise_multiplier**2)
    if sample_rate == 1:
        return np.asarray(exponent.sum(axis=0))
    log_in, log_out = np.log(sample_rate), np.log1p(-sample_rate)
    return np.asarray(np.logaddexp(log_out, log_in + exponent).sum(axis=0))

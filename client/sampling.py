"""Which units take part in a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.errors import PrivacyError
from common.randomness import RandomSource


def poisson_sample(units: int, sample_rate: float, source: RandomSource) -> npt.NDArray[np.int64]:
    """Each unit is in the step with probability `sample_rate`, independently of all else.

    This is the sampler that the accountants' sampled Gaussian assumes: independent over
    units and steps, and secret. An empty sample is legal: the step then releases noise and
    is charged like any other. With sample_rate 1 every unit takes part.

    Args:
        units: number of units at the site (private: it is a call argument only).
        sample_rate: q in (0, 1]; exact up to the uniforms' grid of 2^-53.
        source: the site's source of randomness.

    Returns:
        int64 [k]: increasing indices of the sampled units, 0 ≤ k ≤ units.

    Raises:
        PrivacyError: `sample_rate` outside (0, 1] or `units` negative.
    """
    if not 0 < sample_rate <= 1:
        raise PrivacyError(
            f"sample_rate must be in (0, 1], got {sample_rate}; set privacy.sample_rate"
        )
    if units < 0:
        raise PrivacyError(f"the number of units must be non-negative, got {units}")
    return np.flatnonzero(source.uniform(units) < sample_rate).astype(np.int64)

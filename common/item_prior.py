"""The item prior: popularity counts, released once, as a feature of the score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NOISE_FLOOR = 0.3  # noise deviations added under the logarithm
EXACT_FLOOR = 1.0


def item_prior_from_counts(
    counts: npt.NDArray[np.float64], deviation: float = 0.0
) -> npt.NDArray[np.float32]:
    """Turns (noisy) popularity counts into a standardised logarithmic prior.

    Post-processing of a release: it costs no ε.

    Args:
        counts: ``[V]``, sums over sites; noise may make them negative (taken as zero).
        deviation: Public standard deviation of the noise in each count; items below the
            noise then hardly differ.

    Returns:
        ``[V]`` float32 with mean 0 and standard deviation 1 (all zero for constant counts).
    """
    floor = NOISE_FLOOR * deviation if deviation > 0 else EXACT_FLOOR
    logs = np.log(np.clip(np.asarray(counts, dtype=np.float64), 0.0, None) + floor)
    spread = float(logs.std())
    if not (np.isfinite(spread) and spread > 0.0):
        return np.zeros(len(logs), dtype=np.float32)
    prior: npt.NDArray[np.float32] = ((logs - logs.mean()) / spread).astype(np.float32)
    return prior

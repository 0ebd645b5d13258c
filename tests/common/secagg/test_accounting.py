from __future__ import annotations

import math

import numpy as np
import pytest

from common.accounting import epsilon
from common.errors import PrivacyError
from common.privacy_events import DistributedGaussianEvent, GaussianEvent, SampledGaussianEvent
from common.secagg.accounting import equivalent_noise_multiplier, log_ratio

DELTA = 1e-4


def discrete_gaussian(std: float, reach: int) -> np.ndarray:
    grid = np.arange(-reach, reach + 1)
    weights = np.exp(-(grid**2) / (2 * std**2))
    return weights / weights.sum()


def hockey_stick(p: np.ndarray, shift: int, eps: float) -> float:
    """δ of adding noise with pmf `p` to an integer that moves by `shift`."""
    moved = np.concatenate([np.zeros(shift), p])
    return float(np.maximum(moved - math.exp(eps) * np.concatenate([p, np.zeros(shift)]), 0).sum())


@pytest.mark.parametrize(("share_std", "sites", "shift"), [(12, 1, 5), (4, 5, 9), (6, 3, 11)])
def test_recorded_epsilon_covers_the_exact_one_of_the_sum(
    share_std: int, sites: int, shift: int
) -> None:
    # The exact distribution of the sum, by convolution, on a grid far coarser than real ones.
    single = total = discrete_gaussian(share_std, 15 * share_std)
    for _ in range(sites - 1):
        total = np.convolve(total, single)
    event = DistributedGaussianEvent(share_std, sites, float(shift), 1, 1.0, 1)
    for delta in (1e-2, 1e-4, 1e-6):
        recorded = epsilon([event], delta)
        assert hockey_stick(total, shift, recorded) <= delta
        # Not vacuous: a fifth less would not cover it.
        assert hockey_stick(total, shift, recorded * 0.8) > delta


@pytest.mark.parametrize("accountant", ["prv", "rdp", "pld"])
def test_cost_is_never_below_that_of_the_plain_gaussian(accountant: str) -> None:
    event = DistributedGaussianEvent(2**18, 16, 2.0**20 + 158.1, 25_000, 0.1, 100)
    plain = SampledGaussianEvent(2**20 / (2.0**20 + 158.1), 0.1, 100)
    ours, theirs = epsilon([event], DELTA, accountant), epsilon([plain], DELTA, accountant)  # type: ignore[arg-type]
    # Three accountants, three numerical noise floors; the correction itself is ~1e-11.
    assert theirs * (1 - 1e-6) <= ours <= theirs * (1 + 1e-6)


def test_a_fine_grid_makes_the_correction_negligible() -> None:
    # C ÷ γ = 2^20, σ = 1, d = 25,000, m = 8: rounding's √d is all that is left.
    sensitivity = 2.0**20 + math.sqrt(25_000)
    share = math.ceil(sensitivity / math.sqrt(8))
    assert equivalent_noise_multiplier(share, 8, sensitivity) == pytest.approx(1, rel=1e-5)
    assert log_ratio(share, 8, 25_000, 1000) < 1e-65
    # Had the noise been set for C alone, the sensitivity's √d would cost this much σ.
    assert 2.0**20 / sensitivity > 1 - 1.6e-4


def test_events_compose_with_others() -> None:
    event = DistributedGaussianEvent(2**18, 16, 2.0**20, 25_000, 1.0, 3)
    both = epsilon([event, GaussianEvent(2.0)], DELTA)
    assert both == pytest.approx(epsilon([GaussianEvent(1.0, 3), GaussianEvent(2.0)], DELTA))


@pytest.mark.parametrize(
    ("share_std", "min_honest", "sensitivity", "coordinates"),
    [(3, 1, 1.0, 1), (0, 1, 1.0, 1), (10, 0, 1.0, 1), (10, 1, 0.0, 1), (10, 1, math.inf, 1),
     (10, 1, 1.0, 0), (True, 1, 1.0, 1)],
)  # fmt: skip
def test_mechanisms_that_no_theorem_covers_are_refused(
    share_std: int, min_honest: int, sensitivity: float, coordinates: int
) -> None:
    with pytest.raises(PrivacyError):
        DistributedGaussianEvent(share_std, min_honest, sensitivity, coordinates, 1.0, 1)


def test_theta_bounds_the_lattice_sum() -> None:
    # Σφ_s(k − y) − 1 by Poisson summation, at its extremes y = 0 and y = ½.
    for std in (0.5, 0.6, 0.7):
        grid = np.arange(-60, 61)
        bound = 2.1 * math.exp(-2 * math.pi**2 * std**2)
        for y in (0.0, 0.25, 0.5):
            density = np.exp(-((grid - y) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))
            assert abs(density.sum() - 1) <= bound

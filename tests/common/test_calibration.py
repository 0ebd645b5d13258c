from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.accounting import epsilon
from common.calibration import calibrate_noise_multiplier
from common.errors import CalibrationError, PrivacyError
from common.privacy_events import GaussianEvent, PrivacyEvent, SampledGaussianEvent

POPULARITY: tuple[PrivacyEvent, ...] = (GaussianEvent(4.0),)


@pytest.mark.parametrize(
    ("target", "rate", "steps", "before"),
    [
        (8.0, 1.0, 50, POPULARITY),
        (8.0, 0.1, 50, POPULARITY),
        (2.0, 0.05, 300, ()),
        (30.0, 0.1, 50, ()),
        (0.2, 0.01, 100, (GaussianEvent(30.0),)),
        (200.0, 0.5, 20, ()),
    ],
)
def test_calibrated_steps_meet_the_target_together_with_all_else(
    target: float, rate: float, steps: int, before: tuple[PrivacyEvent, ...]
) -> None:
    sigma = calibrate_noise_multiplier(
        target_epsilon=target, target_delta=1e-4, sample_rate=rate, steps=steps, before=before
    )
    spent = epsilon([*before, SampledGaussianEvent(sigma, rate, steps)], 1e-4)
    assert 0.995 * target <= spent <= target


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 500.0), st.floats(1e-9, 0.1), st.integers(1, 10_000), st.floats(0.5, 100.0))
def test_full_participation_meets_any_reachable_target(
    target: float, delta: float, steps: int, popularity_sigma: float
) -> None:
    before = (GaussianEvent(popularity_sigma),)
    if epsilon(before, delta) >= 0.9 * target:
        return
    sigma = calibrate_noise_multiplier(
        target_epsilon=target, target_delta=delta, sample_rate=1.0, steps=steps, before=before
    )
    spent = epsilon((*before, SampledGaussianEvent(sigma, 1.0, steps)), delta)
    assert spent <= target
    assert spent >= 0.995 * target or epsilon(before, delta) == 0.0


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_target_must_be_positive_and_finite(target: float) -> None:
    with pytest.raises(CalibrationError, match="target_epsilon must be positive"):
        calibrate_noise_multiplier(
            target_epsilon=target, target_delta=1e-4, sample_rate=1.0, steps=1
        )


def test_budget_spent_by_other_releases_is_refused() -> None:
    with pytest.raises(CalibrationError, match="other releases already cost"):
        calibrate_noise_multiplier(
            target_epsilon=1.0,
            target_delta=1e-4,
            sample_rate=0.1,
            steps=10,
            before=(GaussianEvent(0.5),),
        )


@pytest.mark.parametrize(("rate", "steps"), [(0.0, 1), (1.5, 1), (0.5, 0)])
def test_impossible_mechanism_is_refused(rate: float, steps: int) -> None:
    with pytest.raises(PrivacyError):
        calibrate_noise_multiplier(
            target_epsilon=1.0, target_delta=1e-4, sample_rate=rate, steps=steps
        )

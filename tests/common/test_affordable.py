from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.accounting import epsilon
from common.affordable import calibrate_sample_rate, calibrate_steps
from common.calibration import calibrate_noise_multiplier
from common.errors import CalibrationError, PrivacyError
from common.privacy_events import DistributedGaussianEvent, GaussianEvent, PrivacyEvent
from common.privacy_events import SampledGaussianEvent as Sampled

NOTHING: tuple[PrivacyEvent, ...] = ()
POPULARITY: tuple[PrivacyEvent, ...] = (GaussianEvent(4.0),)
A_FORMER_RUN: tuple[PrivacyEvent, ...] = (
    GaussianEvent(6.0),
    DistributedGaussianEvent(2**20, 8, 2.0**20 + 158.2, 25_000, 0.1, 20),
)
DELTA = 1e-5


@pytest.mark.parametrize(
    ("target", "sigma", "rate", "before"),
    [
        (2.0, 1.0, 0.01, NOTHING),
        (2.0, 1.0, 0.01, POPULARITY),
        (8.0, 6.0, 1.0, POPULARITY),
        (3.0, 2.0, 0.1, A_FORMER_RUN),
    ],
)
def test_steps_are_the_most_that_fit(
    target: float, sigma: float, rate: float, before: tuple[PrivacyEvent, ...]
) -> None:
    steps = calibrate_steps(
        target_epsilon=target,
        target_delta=DELTA,
        noise_multiplier=sigma,
        sample_rate=rate,
        before=before,
    )
    assert epsilon((*before, Sampled(sigma, rate, steps)), DELTA) <= target
    assert epsilon((*before, Sampled(sigma, rate, steps + 1)), DELTA) > target


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 50.0), st.floats(0.5, 100.0), st.floats(1e-9, 0.1))
def test_steps_of_full_participation(target: float, sigma: float, delta: float) -> None:
    cost = lambda steps: epsilon([Sampled(sigma, 1.0, steps)], delta)  # noqa: E731
    arguments = {"target_epsilon": target, "target_delta": delta, "noise_multiplier": sigma}
    if cost(1) > target:
        with pytest.raises(CalibrationError, match="not even one step"):
            calibrate_steps(**arguments, sample_rate=1.0)
        return
    steps = calibrate_steps(**arguments, sample_rate=1.0)
    assert cost(steps) <= target < cost(steps + 1)


@pytest.mark.parametrize(
    ("target", "sigma", "steps", "before"),
    [(2.0, 1.0, 1000, NOTHING), (8.0, 2.0, 50, POPULARITY), (4.0, 1.5, 30, A_FORMER_RUN)],
)
def test_sample_rate_meets_the_target(
    target: float, sigma: float, steps: int, before: tuple[PrivacyEvent, ...]
) -> None:
    rate = calibrate_sample_rate(
        target_epsilon=target,
        target_delta=DELTA,
        noise_multiplier=sigma,
        steps=steps,
        before=before,
    )
    assert 0.995 * target <= epsilon((*before, Sampled(sigma, rate, steps)), DELTA) <= target
    # the other two directions find their way back to the same mechanism
    assert (
        steps
        <= calibrate_steps(
            target_epsilon=target,
            target_delta=DELTA,
            noise_multiplier=sigma,
            sample_rate=rate,
            before=before,
        )
        <= steps * 1.03 + 1
    )
    assert calibrate_noise_multiplier(
        target_epsilon=target, target_delta=DELTA, sample_rate=rate, steps=steps, before=before
    ) == pytest.approx(sigma, rel=0.01)


def test_everybody_may_take_part_where_the_budget_allows_it() -> None:
    rate = calibrate_sample_rate(
        target_epsilon=8.0, target_delta=DELTA, noise_multiplier=10.0, steps=10
    )
    assert rate == 1.0


def test_more_budget_affords_more() -> None:
    steps = [
        calibrate_steps(
            target_epsilon=target, target_delta=DELTA, noise_multiplier=1.0, sample_rate=0.02
        )
        for target in (1.0, 2.0, 4.0)
    ]
    rates = [
        calibrate_sample_rate(
            target_epsilon=target, target_delta=DELTA, noise_multiplier=1.0, steps=100
        )
        for target in (1.0, 2.0, 4.0)
    ]
    assert steps == sorted(set(steps))
    assert rates == sorted(set(rates))


STEPS: Callable[..., object] = lambda **k: calibrate_steps(  # noqa: E731
    target_delta=DELTA, sample_rate=0.1, **{"noise_multiplier": 1.0, **k}
)
RATE: Callable[..., object] = lambda **k: calibrate_sample_rate(  # noqa: E731
    target_delta=DELTA, noise_multiplier=1.0, **{"steps": 10, **k}
)


@pytest.mark.parametrize("calibrate", [STEPS, RATE])
@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_target_must_be_positive_and_finite(
    calibrate: Callable[..., object], target: float
) -> None:
    with pytest.raises(CalibrationError, match="target_epsilon must be positive"):
        calibrate(target_epsilon=target)


@pytest.mark.parametrize("calibrate", [STEPS, RATE])
def test_a_spent_budget_affords_nothing(calibrate: Callable[..., object]) -> None:
    with pytest.raises(CalibrationError, match="already cost ε=") as caught:
        calibrate(target_epsilon=1.0, before=(GaussianEvent(0.5),))
    assert "\n" not in str(caught.value)


def test_what_nothing_can_meet_is_refused_in_one_line() -> None:
    with pytest.raises(CalibrationError, match="not even one step fits") as caught:
        STEPS(target_epsilon=0.1, noise_multiplier=0.5)
    assert "\n" not in str(caught.value)
    with pytest.raises(CalibrationError, match="no sample_rate reaches") as caught:
        calibrate_sample_rate(
            target_epsilon=1e-5, target_delta=DELTA, noise_multiplier=0.3, steps=10**6
        )
    assert "\n" not in str(caught.value)
    with pytest.raises(CalibrationError, match="more than 1e\\+09 steps"):
        STEPS(target_epsilon=10.0, noise_multiplier=1e7)


@pytest.mark.parametrize("change", [{"noise_multiplier": 0.0}, {"sample_rate": 1.5}])
def test_impossible_mechanism_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(PrivacyError):
        calibrate_steps(
            target_epsilon=1.0,
            target_delta=DELTA,
            **{"noise_multiplier": 1.0, "sample_rate": 0.1, **change},
        )
    with pytest.raises(PrivacyError):
        calibrate_sample_rate(target_epsilon=1.0, target_delta=DELTA, noise_multiplier=1.0, steps=0)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.accounting import epsilon
from common.errors import PrivacyError
from common.privacy_events import SampledGaussianEvent
from simulations.audit.step_distinguishing import (
    StepObservations,
    composed_epsilon_lower_bound,
    distance_lower_bound,
    distinguish_steps,
    expected_distance,
)

SIGMA = 2.839


def observed(noise=1.0, shift=1.0, n=20_000, seed=0):
    rng = np.random.default_rng(seed)
    without = rng.normal(0, SIGMA * noise, n)
    return StepObservations(without, rng.normal(shift, SIGMA * noise, n), SIGMA, 0.05, 200, 1e-5)


def test_correct_build_passes_with_a_useful_bound():
    finding = distinguish_steps(observed(n=100_000), 0.05)
    assert finding.verdict == "pass"
    assert 0.85 < finding.statistic["mu_lower_bound"] * SIGMA < 1
    assert 0.8 < finding.epsilon_lower_bound < 1


@pytest.mark.parametrize(("noise", "shift"), [(0.5, 1), (1e-9, 1), (1, 10), (0.8, 1)])
def test_wrong_noise_or_clip_fails(noise, shift):
    assert distinguish_steps(observed(noise, shift), 0.05).refutes


def test_a_canary_that_was_not_seen_proves_nothing():
    assert distinguish_steps(observed(shift=0), 0.05).verdict == "not_testable"
    assert distinguish_steps(observed(n=100), 0.05).verdict == "not_testable"


def test_composed_epsilon_is_below_the_accountants():
    value = composed_epsilon_lower_bound(1 / SIGMA, 0.05, 200, 1e-5)
    true = epsilon([SampledGaussianEvent(SIGMA, 0.05, 200)], 1e-5, "pld")
    assert true - 0.01 < value <= true
    assert composed_epsilon_lower_bound(-1.0, 0.05, 200, 1e-5) == 0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 4), st.sampled_from([0.05, 0.01, 0.001]))
def test_expected_distance_is_below_the_truth_and_grows_with_the_data(mu, alpha):
    few, many = (expected_distance(n, n, mu, alpha) for n in (400, 40_000))
    assert few <= many + 1e-9
    assert many < mu


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3))
def test_the_bound_knows_no_scale_and_no_origin(origin, scale):
    first = observed(n=400)
    moved = [origin + scale * values for values in (first.without, first.with_canary)]
    plain = distance_lower_bound(first.without, first.with_canary, 0.05)
    # Rounding can move an observation across the threshold.
    assert distance_lower_bound(*moved, 0.05).mu == pytest.approx(plain.mu, abs=0.02)


def test_worlds_that_never_meet_are_as_far_apart_as_their_number_can_show():
    bound = distance_lower_bound(np.zeros(1000), np.ones(1000), 0.05)
    assert bound.mu == pytest.approx(2 * 2.583, abs=0.01)  # Φ⁻¹(1 − α/2^(1/750))


@pytest.mark.parametrize("values", [np.zeros(7), np.array([np.nan] * 9), np.zeros((9, 9))])
def test_wrong_observations_are_refused(values):
    with pytest.raises(PrivacyError, match="at least 8 finite observations"):
        distance_lower_bound(values, np.zeros(9), 0.05)


@pytest.mark.statistical
def test_a_correct_build_fails_no_more_often_than_stated():
    # Both bounds wrong way round are rare: α = 20% to see some. More than 54 of 200: p = 0.007.
    wrong = [
        distance_lower_bound(o.without, o.with_canary, 0.2).mu > 1 / SIGMA
        for o in (observed(n=2000, seed=seed) for seed in range(200))
    ]
    assert sum(wrong) <= 54

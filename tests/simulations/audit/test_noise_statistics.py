import numpy as np
import pytest

from common.errors import PrivacyError
from simulations.audit.noise_statistics import (
    NoiseDraws,
    noise_independence,
    noise_scale,
    scale_interval,
)


def draws(scale=1.0, seed=0, rows=8, width=5000):
    values = scale * np.random.default_rng(seed).normal(0, 2.5, (rows, width))
    return NoiseDraws(values, 2.5, "the steps of a site")


def test_right_noise_passes():
    assert noise_scale(draws()).verdict == "pass"
    assert noise_independence(draws()).verdict == "pass"


@pytest.mark.parametrize("scale", [0.0, 0.5, 0.97, 1.03, 2.0])
def test_wrong_scale_fails(scale):
    assert noise_scale(draws(scale)).refutes


def test_noise_that_is_shared_or_negated_fails():
    for sign in (1, -1):
        shared = draws()
        shared.draws[5] = sign * shared.draws[2]
        finding = noise_independence(shared)
        assert finding.refutes
        assert "numbers 2 and 5" in finding.reason


def test_weakly_correlated_noise_fails():
    mixed = draws()
    mixed.draws[1] = 0.1 * mixed.draws[0] + np.sqrt(0.99) * mixed.draws[1]
    assert noise_independence(mixed).refutes


def test_no_noise_at_all_has_no_correlation_but_no_scale_either():
    silent = NoiseDraws(np.zeros((3, 10)), 1.0, "the sites of a round")
    assert noise_independence(silent).verdict == "pass"
    assert noise_scale(silent).refutes


def test_interval_is_the_chi_square_one():
    low, high = scale_interval(100, 0.001)
    assert low**2 * 100 == pytest.approx(59.9, abs=0.1)  # a table's χ² quantiles
    assert high**2 * 100 == pytest.approx(153.2, abs=0.1)


@pytest.mark.parametrize("values", [np.zeros(5), np.zeros((1, 1)), np.array([[np.inf, 0]])])
def test_wrong_draws_are_refused(values):
    with pytest.raises(PrivacyError, match="noise of the steps"):
        noise_scale(NoiseDraws(values, 1.0, "the steps"))
    with pytest.raises(PrivacyError, match="releases >= 2"):
        noise_independence(NoiseDraws(np.zeros((1, 4)), 1.0, "the steps"))


@pytest.mark.statistical
def test_false_alarms_are_as_stated():
    # At α = 10%: outside 24 … 78 of 500 happens with probability below 1e-4 either way.
    for check in (noise_scale, noise_independence):
        wrong = [check(draws(seed=s, width=60), 0.1).verdict == "fail" for s in range(500)]
        assert 24 <= sum(wrong) <= 78

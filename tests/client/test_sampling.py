from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from client.sampling import poisson_sample
from common.errors import PrivacyError
from common.randomness import secure_source, seeded_source

FALSE_ALARM = 1e-6  # of each statistical test, on a correct sampler
UNITS, RATE, STEPS = 200, 0.05, 4000


@pytest.fixture(scope="module")
def inclusions() -> np.ndarray:
    """bool [STEPS, UNITS] from the site's real source."""
    source = secure_source()
    table = np.zeros((STEPS, UNITS), dtype=bool)
    for row in table:
        row[poisson_sample(UNITS, RATE, source)] = True
    return table


@pytest.mark.statistical
def test_each_unit_is_included_at_the_sample_rate(inclusions: np.ndarray) -> None:
    for count in inclusions.sum(axis=0):
        assert stats.binomtest(int(count), STEPS, RATE).pvalue > FALSE_ALARM / UNITS


@pytest.mark.statistical
def test_batch_sizes_vary_as_poisson_sampling_does(inclusions: np.ndarray) -> None:
    sizes = inclusions.sum(axis=1)
    variance = UNITS * RATE * (1 - RATE)
    spread = np.sum((sizes - UNITS * RATE) ** 2) / variance
    kurtosis = (1 - 6 * RATE * (1 - RATE)) / variance
    error = np.sqrt(STEPS * (2 + kurtosis))
    assert abs(spread - STEPS) / error < stats.norm.isf(FALSE_ALARM / 2)


@pytest.mark.statistical
def test_units_and_steps_are_independent(inclusions: np.ndarray) -> None:
    centred = inclusions - RATE
    limit = stats.norm.isf(FALSE_ALARM / 2) * RATE * (1 - RATE)
    between_units = np.sum(centred[:, 1:] * centred[:, :-1])
    between_steps = np.sum(centred[1:] * centred[:-1])
    assert abs(between_units) < limit * np.sqrt(STEPS * (UNITS - 1))
    assert abs(between_steps) < limit * np.sqrt((STEPS - 1) * UNITS)


@pytest.mark.statistical
def test_waiting_times_are_geometric(inclusions: np.ndarray) -> None:
    """A sampler that deals every unit once per epoch has no short and no long gaps."""
    gaps = np.concatenate([np.diff(np.flatnonzero(unit)) for unit in inclusions.T])
    edges = np.array([1, 3, 6, 10, 15, 22, 32, 46])
    seen = np.histogram(gaps, [*edges, np.inf])[0]
    reached = (1 - RATE) ** (edges - 1)
    shares = reached - np.append(reached[1:], 0)
    # A gap is seen if it ends within the run: the longest bin loses a little.
    assert stats.chisquare(seen[:-1], shares[:-1] / shares[:-1].sum() * seen[:-1].sum()).pvalue > (
        FALSE_ALARM
    )


@given(st.integers(0, 500), st.floats(1e-6, 1.0), st.integers(0, 5))
def test_sample_holds_increasing_indices(units: int, rate: float, seed: int) -> None:
    sample = poisson_sample(units, rate, seeded_source(seed))
    assert sample.dtype == np.int64
    assert np.all(np.diff(sample) > 0)
    assert np.all((sample >= 0) & (sample < units))


def test_rate_one_takes_every_unit_every_time() -> None:
    source = secure_source()
    for _ in range(50):
        assert poisson_sample(100, 1.0, source).tolist() == list(range(100))


def test_no_unit_gives_an_empty_sample() -> None:
    assert poisson_sample(0, 0.5, secure_source()).shape == (0,)


def test_a_tiny_rate_gives_empty_samples() -> None:
    assert not any(len(poisson_sample(10, 1e-9, seeded_source(0, i))) for i in range(100))


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.01, float("nan")])
def test_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(PrivacyError, match="sample_rate"):
        poisson_sample(10, rate, secure_source())


def test_negative_number_of_units_is_refused() -> None:
    with pytest.raises(PrivacyError, match="units"):
        poisson_sample(-1, 0.5, secure_source())

"""Bootstrap intervals: known coverage, pairing, and faults."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.errors import DataError
from simulations.evaluation.intervals import Interval, mean_interval, paired_difference


def test_interval_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, size=4000)
    interval = mean_interval(values)
    margin = 1.96 * values.std() / math.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - margin, abs=0.1 * margin)
    assert interval.high == pytest.approx(values.mean() + margin, abs=0.1 * margin)


def test_equal_seeds_give_equal_intervals_and_batches_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(2).random(100)
    first = mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) == first
    assert mean_interval(values, seed=4) != first
    monkeypatch.setattr("simulations.evaluation.intervals._CELLS_PER_BATCH", 700)
    assert mean_interval(values, seed=3).mean == first.mean


def test_constant_values_have_an_interval_without_width() -> None:
    assert mean_interval(np.full(20, 0.25)) == Interval(0.25, 0.25, 0.25)


def test_one_user_says_nothing_about_others() -> None:
    interval = mean_interval(np.array([0.5]))
    assert interval.mean == 0.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize("values", [[], [0.1, float("nan")], [float("inf")]])
def test_missing_or_non_finite_values_are_an_error(values: list[float]) -> None:
    with pytest.raises(DataError, match="finite values of at least one user"):
        mean_interval(np.array(values))


def test_pairing_removes_what_the_users_have_in_common() -> None:
    rng = np.random.default_rng(5)
    common = rng.normal(0, 10, size=500)
    second = common + rng.normal(0, 0.1, size=500)
    first = second + 0.05 + rng.normal(0, 0.01, size=500)
    paired = paired_difference(first, second)
    assert paired.low > 0.045
    assert paired.high < 0.055


def test_paired_difference_needs_the_same_users() -> None:
    with pytest.raises(DataError, match="the same users, got 3 and 4"):
        paired_difference(np.zeros(3), np.zeros(4))


@pytest.mark.statistical
def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    """95% intervals over 400 draws: outside 365..395 hits in fewer than 1 of 500 runs."""
    rng = np.random.default_rng(7)
    hits = 0
    for seed in range(400):
        interval = mean_interval((rng.random(300) < 0.2).astype(float), seed=seed, resamples=500)
        hits += interval.low <= 0.2 <= interval.high
    assert 365 <= hits <= 395

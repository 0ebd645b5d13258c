"""The two-level bootstrap: closed forms where there are some, and coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from common.errors import DataError
from simulations.evaluation.comparison import seed_matrix, two_level_difference, two_level_mean
from simulations.evaluation.full_ranking import PerUser
from simulations.evaluation.intervals import Interval, paired_difference

Z = 1.959964


def half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def test_without_noise_it_is_the_bootstrap_over_users() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 400))
    known = paired_difference(first, second, resamples=4000)
    found = two_level_difference(first[None], second[None], resamples=4000)
    assert found.mean == pytest.approx(known.mean)
    assert half_width(found) == pytest.approx(half_width(known), rel=0.08)


def test_where_users_are_alike_it_is_the_error_of_the_seeds() -> None:
    """All 5⁵ resamples of five seeds, spread so that their variance is the unbiased s²/5."""
    rng = np.random.default_rng(1)
    seeds, others = rng.normal(size=5), rng.normal(size=40)
    one = np.repeat(seeds[:, None], 50, axis=1)
    other = np.repeat(others[:, None], 50, axis=1)
    resampled = seeds[np.array(list(itertools.product(range(5), repeat=5)))].mean(axis=1)
    spread = math.sqrt(5 / 4) * (resampled - seeds.mean())
    assert spread.std() == pytest.approx(seeds.std(ddof=1) / math.sqrt(5))
    low, high = np.quantile(spread, [0.025, 0.975])
    mean = two_level_mean(one, resamples=20_000)
    assert half_width(mean) == pytest.approx((high - low) / 2, rel=0.02)
    error = math.sqrt(seeds.var(ddof=1) / 5 + others.var(ddof=1) / 40)
    difference = two_level_difference(one, other, resamples=20_000)
    assert half_width(difference) == pytest.approx(Z * error, rel=0.08)  # nearly normal
    assert difference.mean == pytest.approx(seeds.mean() - others.mean())


def test_users_are_paired_and_seeds_are_not() -> None:
    """What both methods owe to a user cancels; what each owes to its seeds does not."""
    rng = np.random.default_rng(2)
    user = rng.normal(size=500)
    one, other = user + 0.1 * rng.normal(size=(2, 8, 1))
    assert half_width(two_level_mean(one)) > 0.07
    expected = Z * math.sqrt((one.mean(1).var(ddof=1) + other.mean(1).var(ddof=1)) / 8)
    found = two_level_difference(one, other, resamples=8000)
    assert half_width(found) == pytest.approx(expected, rel=0.1)
    assert half_width(two_level_difference(one, one[::-1], resamples=8000)) > 0.02


@pytest.mark.statistical
def test_the_interval_covers_the_truth() -> None:
    """Crossed effects of users, seeds and both, 10 seeds a method, truth 0.3.

    Nominally 95%. Ten seeds and a normal quantile give about 93%; the count of 400 trials is
    below 90% or above 98.5% with a chance under 1 in 100.
    """
    rng, trials, hits = np.random.default_rng(3), 400, 0
    for trial in range(trials):
        user = rng.normal(size=(2, 1, 60)) * 0.5
        seed = rng.normal(size=(2, 10, 1)) * 0.15
        noise = rng.normal(size=(2, 10, 60)) * 0.3
        first, second = user + seed + noise
        found = two_level_difference(first + 0.3, second, resamples=300, seed=trial)
        hits += found.low <= 0.3 <= found.high
    assert 0.90 < hits / trials < 0.985


def test_one_user_says_nothing_about_others() -> None:
    found = two_level_mean(np.array([[1.0], [3.0]]))
    assert found.mean == 2.0
    assert math.isnan(found.low)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "the same users"),
        (np.zeros(3), np.zeros((2, 3)), r"tables \[seeds, users\]"),
        (np.zeros((0, 3)), np.zeros((2, 3)), r"tables \[seeds, users\]"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "finite"),
    ],
)
def test_what_cannot_be_compared_is_said(first: np.ndarray, second: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        two_level_difference(first, second)


def evaluation(values: list[float], users: tuple[str, ...] = ("a", "b")) -> PerUser:
    metric = np.array(values)
    return PerUser(users, metric, metric, metric, metric, metric, ())


def test_seeds_are_stacked_over_the_same_users() -> None:
    found = seed_matrix([evaluation([0.0, 1.0]), evaluation([2.0, 3.0])], "hr_10")
    assert found.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    with pytest.raises(DataError, match="do not hold the same users"):
        seed_matrix([evaluation([0.0, 1.0]), evaluation([0.0, 1.0], ("b", "a"))], "hr_10")
    with pytest.raises(DataError, match="0 seeds"):
        seed_matrix([], "hr_10")

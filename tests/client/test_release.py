"""Popularity counts: one unit moves them by at most 1, and the noise is as declared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from client.release import noisy_popularity
from common.holdout import ItemSequence, UserSplit
from common.privacy_units import Unit, make_units
from common.randomness import secure_source


def unit(items: list[int]) -> Unit:
    array = np.array(items, dtype=np.int64)
    return Unit("u", array, np.ones(len(items), np.float32), np.unique(array))


@given(st.lists(st.sets(st.integers(0, 19), min_size=1).map(sorted), min_size=1, max_size=6))
def test_adding_one_unit_moves_the_counts_by_at_most_one(histories: list[list[int]]) -> None:
    units = [unit(items) for items in histories]
    with_all = noisy_popularity(units, 20, noise_multiplier=0.0, noise=None)
    without = noisy_popularity(units[1:], 20, noise_multiplier=0.0, noise=None)
    assert np.linalg.norm(with_all - without) == pytest.approx(1.0, abs=1e-5)


@given(st.lists(st.integers(0, 19), min_size=1, max_size=12))
def test_an_example_counts_its_target_by_one(items: list[int]) -> None:
    array = np.array(items, dtype=np.int64)
    empty = ItemSequence(array[:0], np.ones(0, np.float32), array[:0])
    train = ItemSequence(array, np.ones(len(items), np.float32), np.arange(len(items)))
    examples = make_units([UserSplit("u", train, empty, empty)], max_history=5, unit="example")
    counts = noisy_popularity(examples, 20, noise_multiplier=0.0, noise=None)
    assert counts.tolist() == np.bincount(array, minlength=20).tolist()


@pytest.mark.statistical
@pytest.mark.parametrize(("declared", "accepted"), [(2.0, True), (2.0 / 0.9, False)])
def test_noise_has_the_declared_deviation(declared: float, accepted: bool) -> None:
    # χ² over 20,000 numbers at 99.99%: a right σ fails once in 10,000 runs, and noise that
    # is 10% too small is seen (its power is 1 to 15 digits).
    n = 20_000
    counts = noisy_popularity([], n, noise_multiplier=2.0, noise=secure_source())
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], n)
    statistic = float(np.square(counts.astype(np.float64) / declared).sum())
    assert bool(low <= statistic <= high) is accepted

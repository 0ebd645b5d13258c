"""Intervals over users: bounds by hand, the right width, no width where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import sem

from simulations.fairness.groups import user_gini
from simulations.fairness.user_intervals import (
    bootstrap_interval,
    gini,
    group_means,
    jackknife_interval,
    percentile_interval,
    resampled_sums,
)

UTILITIES = arrays(
    np.float64,
    st.integers(1, 30),
    elements=st.integers(0, 1000).map(lambda thousandths: thousandths / 1000),
)


@given(UTILITIES)
def test_gini_is_within_zero_and_one_and_that_of_the_groups_room(values: np.ndarray) -> None:
    found = float(gini(values[None])[0])
    assert -1e-9 <= found < 1
    assert found == pytest.approx(user_gini(values), abs=1e-9)


@given(UTILITIES, st.integers(0, 1000), st.floats(0.1, 10))
def test_gini_knows_neither_order_nor_scale(values: np.ndarray, seed: int, scale: float) -> None:
    shuffled = np.random.default_rng(seed).permutation(values) * scale
    assert gini(shuffled[None]) == pytest.approx(gini(values[None]), abs=1e-7)


def test_gini_of_all_for_one() -> None:
    assert gini(np.array([[0, 0, 0, 1.0], [1, 1, 1, 1], [0, 0, 0, 0]])) == pytest.approx(
        [0.75, 0, 0]
    )


def test_a_bootstrapped_mean_is_as_wide_as_its_standard_error() -> None:
    values = np.random.default_rng(1).random(400)
    found = bootstrap_interval(values, lambda rows: rows.mean(axis=1), resamples=4000)
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * sem(values), rel=0.1)


def test_one_user_has_no_interval() -> None:
    assert math.isnan(bootstrap_interval(np.ones(1), gini).low)
    assert math.isnan(jackknife_interval(np.ones((1, 2)), gini, seen=np.ones(2)).high)
    assert math.isnan(group_means(np.ones((1, 1)), np.zeros(1, np.int64)).interval(0).low)


def test_what_is_never_defined_has_no_interval() -> None:
    assert math.isnan(percentile_interval(0.5, np.full(3, np.nan)).low)


def test_resampled_sums_hold_as_many_users_each() -> None:
    sums = resampled_sums(np.column_stack([np.ones(7), np.arange(7.0)]), resamples=50)
    assert sums.shape == (50, 2)
    assert (sums[:, 0] == 7).all()
    assert np.ptp(sums[:, 1]) > 0


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(2).random(60)
    groups = np.column_stack([values, np.ones(60)])
    found = jackknife_interval(groups, lambda s: s[:, 0] / s[:, 1], seen=groups.sum(axis=0))
    assert found.high - found.mean == pytest.approx(1.96 * sem(values), rel=1e-3)


def test_users_are_resampled_within_their_group() -> None:
    values = np.array([1.0, 5.0, 1.0, 5.0, 1.0])[:, None]
    found = group_means(values, np.array([0, 1, 0, 1, 0]), resamples=30)
    assert found.sizes.tolist() == [3, 2]
    assert found.means[:, 0].tolist() == [1, 5]
    assert (found.drawn[:, 0, 0] == 1).all()
    assert (found.drawn[:, 1, 0] == 5).all()


def test_batches_make_all_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulations.fairness.user_intervals._CELLS_PER_BATCH", 10)
    assert resampled_sums(np.ones((4, 1)), resamples=7).shape == (7, 1)
    assert group_means(np.ones((4, 1)), np.zeros(4, np.int64), resamples=7).drawn.shape == (7, 1, 1)

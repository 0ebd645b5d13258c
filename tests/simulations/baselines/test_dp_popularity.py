"""DP-Pop: sensitivity, the noise it adds, and what it releases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.accounting import epsilon
from common.errors import CalibrationError
from common.holdout import ItemSequence, UserSplit
from common.privacy_events import GaussianEvent
from common.randomness import seeded_source
from simulations.baselines import (
    dp_popularity_metrics,
    popularity_release,
    release_deviation,
    unit_popularity,
)

ITEMS = 30


def user(name: str, train: list[int], test: int = 0) -> UserSplit:
    def sequence(items: list[int]) -> ItemSequence:
        n = len(items)
        return ItemSequence(
            np.array(items, dtype=np.int64), np.ones(n, np.float32), np.arange(n, dtype=np.int64)
        )

    return UserSplit(name, sequence(train), sequence([]), sequence([test]))


histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=25), min_size=1, max_size=6)


@given(histories)
def test_one_user_changes_the_sum_by_at_most_one(rows: list[list[int]]) -> None:
    """Even a user with repeated items, or with none."""
    splits = [user(str(n), row) for n, row in enumerate(rows)]
    change = unit_popularity(splits, ITEMS) - unit_popularity(splits[:-1], ITEMS)
    assert np.linalg.norm(change) <= 1 + 1e-9
    if rows[-1]:
        assert np.linalg.norm(change) == pytest.approx(1)


def test_held_out_items_are_not_released() -> None:
    assert unit_popularity([user("a", [1, 2], test=9)], ITEMS)[9] == 0


@pytest.mark.parametrize("target", [1.0, 3.0, 8.0])
def test_the_deviation_costs_exactly_the_budget(target: float) -> None:
    sigma = release_deviation(target, 1e-4, "central", sites=10)
    spent = epsilon([GaussianEvent(noise_multiplier=sigma)], 1e-4, "pld")
    assert spent == pytest.approx(target, abs=0.02)


def test_local_noise_grows_with_the_root_of_the_number_of_sites() -> None:
    central = release_deviation(8, 1e-4, "central", sites=9)
    assert release_deviation(8, 1e-4, "local", sites=9) == pytest.approx(3 * central)
    assert release_deviation(8, 1e-4, "local", sites=1) == central


@pytest.mark.parametrize(
    ("target", "delta", "sites"), [(0, 1e-4, 1), (math.inf, 1e-4, 1), (8, 0, 1), (8, 1e-4, 0)]
)
def test_an_impossible_budget_is_an_error(target: float, delta: float, sites: int) -> None:
    with pytest.raises(CalibrationError, match="finite ε > 0"):
        release_deviation(target, delta, "local", sites)


@pytest.mark.statistical
def test_the_release_has_the_noise_that_was_asked_for() -> None:
    """20,000 draws: the sample deviation is within 3% but in 1 of 10^8 runs."""
    zeros = np.zeros(20_000)
    noise = popularity_release(zeros, 2.5, seeded_source(1, "dp-pop"))
    assert noise.std() == pytest.approx(2.5, rel=0.03)
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() / (0.9 * 2.5) - 1) > 0.05


def test_releases_differ_because_their_noise_is_secret() -> None:
    zeros = np.zeros(10)
    assert (popularity_release(zeros, 1.0) != popularity_release(zeros, 1.0)).all()


def test_a_large_budget_gives_the_order_of_the_exact_sum() -> None:
    splits = [user(str(n), list(range(n % 5 + 1)), test=20) for n in range(200)]
    splits.append(user("last", [25], test=0))
    found = dp_popularity_metrics(
        splits, ITEMS, "test", epsilon=1e4, delta=1e-4, form="central", sites=1
    )
    assert found.mrr[-1] == 1
    assert found.ranks == ()

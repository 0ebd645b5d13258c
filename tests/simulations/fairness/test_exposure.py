"""Exposure of items in users' lists: closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DataError
from simulations.evaluation.top_lists import NOBODY
from simulations.fairness.exposure import exposure, long_tail

COUNTS = np.array([50, 30, 10, 6, 4])


def test_the_short_head_has_four_fifths_of_the_interactions() -> None:
    assert long_tail(COUNTS).tolist() == [False, False, True, True, True]
    assert long_tail(np.array([40, 20, 20, 12, 8])).tolist() == [False, False, False, True, True]
    assert long_tail(COUNTS[::-1]).tolist() == [True, True, True, False, False]


def test_figures_by_hand() -> None:
    lists = np.array([[0, 1], [0, 2], [0, NOBODY]])
    found = exposure(lists, COUNTS, users=100)
    assert found.coverage.mean == pytest.approx(3 / 5)
    # places 3, 1, 1, 0, 0: Σ(2i − 6)·y = 0·−4 + 0·−2 + 1·0 + 1·2 + 3·4 = 14; over 5·5
    assert found.gini.mean == pytest.approx(14 / 25)
    assert found.popularity.mean == pytest.approx((3 * 0.5 + 0.3 + 0.1) / 5)
    assert found.long_tail_share.mean == pytest.approx(1 / 5)


def test_everybody_sees_the_same_or_everything_alike() -> None:
    same = exposure(np.tile([0, 1], (40, 1)), COUNTS, users=100)
    assert same.coverage.mean == pytest.approx(2 / 5)
    assert same.coverage.low == same.coverage.high == pytest.approx(2 / 5)
    even = exposure(np.arange(5)[:, None], COUNTS, users=100)
    assert even.gini.mean == pytest.approx(0)
    assert even.coverage.mean == 1


def test_the_interval_is_of_users_who_could_have_been_others() -> None:
    rng = np.random.default_rng(0)
    lists = np.stack([rng.permutation(60)[:5] for _ in range(500)])
    found = exposure(lists, np.ones(60, np.int64), users=500)
    for figure in (found.gini, found.popularity):
        assert figure.low <= figure.mean <= figure.high
    assert 0 < found.gini.high - found.gini.low < 0.1


@given(st.integers(0, 2**32 - 1))
def test_users_and_items_have_no_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lists, counts = rng.integers(-1, 8, size=(6, 3)), rng.permutation(8) + 1
    lists[0, 0] = 1
    renamed = rng.permutation(8)
    moved = np.where(lists == NOBODY, NOBODY, renamed[lists])[rng.permutation(6)]
    new_counts = np.empty(8, np.int64)
    new_counts[renamed] = counts
    before, after = exposure(lists, counts, 10), exposure(moved, new_counts, 10)
    for name in ("coverage", "gini", "popularity", "long_tail_share"):
        figure = getattr(before, name).mean
        assert figure == pytest.approx(getattr(after, name).mean)
        assert 0 <= figure <= 1


@pytest.mark.parametrize("lists", [[[NOBODY]], [[5]], [[-2]]])
def test_lists_of_nothing_or_of_another_catalogue(lists: list[list[int]]) -> None:
    with pytest.raises(DataError, match=r"items in 0\.\.4"):
        exposure(np.array(lists), COUNTS, users=10)

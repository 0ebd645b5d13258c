"""The worst-served users: AUC by counting pairs, the tail by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DataError
from simulations.fairness.tail import user_auc, worst_mean, worst_tenth


@given(st.integers(0, 2**32 - 1))
def test_auc_counts_pairs_in_the_right_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates = int(rng.integers(2, 15))
    targets = np.sort(rng.permutation(candidates)[: rng.integers(1, candidates)])  # places from 0
    others = np.setdiff1d(np.arange(candidates), targets)
    right = (targets[:, None] < others[None]).mean()
    found = user_auc([rng.permutation(targets + 1)], np.array([candidates]))
    assert found == pytest.approx([right])


def test_auc_of_the_best_and_the_worst_place() -> None:
    ranks = [np.array([1]), np.array([10]), np.array([1, 2]), np.array([1, 2])]
    assert user_auc(ranks, np.array([10, 10, 10, 2])).tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(("ranks", "candidates"), [([[]], [5]), ([[6]], [5]), ([[1]], [5, 5])])
def test_ranks_must_fit_the_candidates(ranks: list[list[int]], candidates: list[int]) -> None:
    with pytest.raises(DataError, match="AUC needs ranks"):
        user_auc([np.array(row, dtype=np.int64) for row in ranks], np.array(candidates))


def test_the_worst_tenth_by_hand() -> None:
    values = np.arange(20, 0, -1.0)
    assert worst_mean(values[None]).tolist() == [1.5]
    assert worst_mean(np.array([[3.0, 1, 2]])).tolist() == [1]  # at least one user
    assert worst_mean(np.arange(11.0)[None]).tolist() == [0.5]  # rounded up


def test_its_interval_is_around_it() -> None:
    values = np.random.default_rng(0).random(500)
    found = worst_tenth(values)
    assert found.mean == pytest.approx(np.sort(values)[:50].mean())
    assert found.low < found.mean < found.high < values.mean()

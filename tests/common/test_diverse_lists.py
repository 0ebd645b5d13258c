"""Variety in lists: against closed cases, exhaustive search, and what must never change."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.diverse_lists import (
    calibrated_list,
    capped_lists,
    divergence,
    genre_shares,
    mmr_list,
    wanted_shares,
)
from common.errors import DataError

SCORES = np.array([1.0, 0.9, 0.8, 0.1])


def test_without_strength_the_scores_decide() -> None:
    vectors, genres = np.eye(4), np.eye(4)
    wanted = np.array([0.0, 0.0, 0.0, 1.0])
    assert mmr_list(SCORES, vectors, 3, 0.0).tolist() == [0, 1, 2]
    assert calibrated_list(SCORES, genres, wanted, 3, 0.0).tolist() == [0, 1, 2]


def test_mmr_leaves_out_a_twin() -> None:
    vectors = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-1.0, 0.1]])
    # After 0 its twin 1 is worth .7 · 8/9 − .3, and 2 is worth .7 · 7/9, and 3, its opposite, .3.
    assert mmr_list(SCORES, vectors, 2, 0.3).tolist() == [0, 2]
    assert mmr_list(SCORES, vectors, 4, 1.0).tolist() == [0, 3, 2, 1]


def test_mmr_is_the_definition() -> None:
    rng = np.random.default_rng(3)
    scores, vectors = rng.normal(size=12), rng.normal(size=(12, 3))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    chosen = mmr_list(scores, vectors, 6, 0.4).tolist()
    assert chosen[0] == int(np.argmax(scores))
    for place in range(1, 6):
        before = chosen[:place]
        worth = {
            item: 0.6 * relevance[item] - 0.4 * max(unit[item] @ unit[other] for other in before)
            for item in range(12)
            if item not in before
        }
        assert chosen[place] == max(worth, key=lambda item: worth[item])


def test_a_calibrated_list_has_the_history_s_genres() -> None:
    genres = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 4)
    scores = np.linspace(1, 0.5, 10)
    wanted = np.array([0.5, 0.5])
    plain = calibrated_list(scores, genres, wanted, 4, 0.0)
    assert plain.tolist() == [0, 1, 2, 3]
    chosen = calibrated_list(scores, genres, wanted, 4, 0.9)
    assert sorted(chosen.tolist()) == [0, 1, 6, 7]
    assert divergence(wanted, genres[chosen].mean(axis=0)) == pytest.approx(0.0, abs=1e-12)
    unknown = calibrated_list(scores, genres, np.zeros(2), 4, 0.9)
    assert unknown.tolist() == [0, 1, 2, 3]


def test_greedy_calibration_is_near_the_best_of_all_lists() -> None:
    rng = np.random.default_rng(5)
    scores, genres = rng.random(7), rng.dirichlet(np.ones(3), size=7)
    wanted, strength, k = rng.dirichlet(np.ones(3)), 0.5, 3
    relevance = (scores - scores.min()) / (scores.max() - scores.min())

    def worth(chosen: tuple[int, ...]) -> float:
        miss = divergence(wanted, genres[list(chosen)].mean(axis=0))
        return float((1 - strength) * relevance[list(chosen)].sum() / k - strength * miss)

    best = max(map(worth, permutations(range(7), k)))
    assert worth(tuple(calibrated_list(scores, genres, wanted, k, strength))) > best - 0.05


def test_divergence_by_hand() -> None:
    wanted = np.array([0.75, 0.25, 0.0])
    shares = np.array([[0.0, 1.0, 0.0], [0.75, 0.25, 0.0]])
    miss = 0.75 * np.log(1 / 0.01) + 0.25 * np.log(0.25 / (0.99 + 0.0025))
    assert divergence(wanted, shares) == pytest.approx([miss, 0.0])


def test_shares_of_genres() -> None:
    shares = genre_shares([("b", "a"), (), ("b",)])
    assert shares.tolist() == [[0.5, 0.5], [0.0, 0.0], [0.0, 1.0]]
    assert wanted_shares(np.array([0, 2]), shares).tolist() == [0.25, 0.75]
    assert wanted_shares(np.array([1]), shares).tolist() == [0.0, 0.0]
    assert genre_shares([(), ()]).shape == (2, 0)


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 4), st.integers(0, 9))
def test_caps_hold_and_no_list_is_short(users: int, items: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates = [rng.permutation(items) for _ in range(users)]
    most = -(-users * min(k, items) // items)  # enough for everybody
    lists = capped_lists(candidates, k, most, items, seed=seed)
    shown = np.bincount(np.concatenate(lists), minlength=items)
    assert all(len(set(each.tolist())) == min(k, items) for each in lists)
    assert shown.sum() == users * min(k, items)
    for each, chosen in zip(candidates, lists, strict=True):  # best first
        places = [each.tolist().index(item) for item in chosen]
        assert places == sorted(places)
    loose = capped_lists(candidates, k, users, items, seed=seed)
    assert all((each[:k] == chosen).all() for each, chosen in zip(candidates, loose, strict=True))


def test_a_cap_spreads_one_favourite() -> None:
    candidates = [np.array([0, 1 + user]) for user in range(4)]
    lists = capped_lists(candidates, 1, 1, 5)
    assert sorted(int(each[0]) for each in lists).count(0) == 1


@given(
    arrays(np.float64, st.integers(1, 8), elements=st.floats(-5, 5)),
    st.floats(0, 1),
    st.integers(1, 10),
)
def test_a_list_is_of_distinct_candidates(scores: np.ndarray, strength: float, k: int) -> None:
    rng = np.random.default_rng(len(scores))
    vectors, genres = rng.normal(size=(len(scores), 2)), rng.dirichlet([1, 1], size=len(scores))
    for chosen in (
        mmr_list(scores, vectors, k, strength),
        calibrated_list(scores, genres, np.array([0.5, 0.5]), k, strength),
    ):
        assert len(set(chosen.tolist())) == len(chosen) == min(k, len(scores))
        assert ((chosen >= 0) & (chosen < len(scores))).all()


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_outside_its_range(strength: float) -> None:
    with pytest.raises(DataError, match=r"must be in 0\.\.1"):
        mmr_list(SCORES, np.eye(4), 2, strength)


def test_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="finite score for each candidate"):
        mmr_list(SCORES, np.eye(3), 2, 0.5)
    with pytest.raises(DataError, match="finite score for each candidate"):
        mmr_list(np.array([np.inf]), np.eye(1), 1, 0.5)
    with pytest.raises(DataError, match="one share for each of 4 genres"):
        calibrated_list(SCORES, np.eye(4), np.ones(3) / 3, 2, 0.5)
    with pytest.raises(DataError, match="k and most"):
        capped_lists([np.array([0])], 1, 0, 1)
    with pytest.raises(DataError, match="no item of the catalogue"):
        capped_lists([np.array([5])], 1, 1, 2)

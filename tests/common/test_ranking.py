"""Worst-case ranks: hand-computed cases and agreement with a naive sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from common.errors import DataError
from common.ranking import worst_ranks
from tests.common.ranking_cases import ranking_cases


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def ranks_of(scores: list[list[float]], targets: list[np.ndarray], seen: list[np.ndarray]) -> list:
    rows = worst_ranks(np.array(scores, dtype=np.float32), targets, seen)
    return [row.tolist() for row in rows]


def test_single_target_counts_better_candidates() -> None:
    assert ranks_of([[0.9, 0.8, 0.7, 0.6]], [ints(2)], [ints()]) == [[3]]


def test_history_is_no_candidate() -> None:
    assert ranks_of([[0.9, 0.8, 0.7, 0.6]], [ints(2)], [ints(0, 1)]) == [[1]]


def test_equal_scores_put_the_target_last() -> None:
    assert ranks_of([[0.5, 0.5, 0.5, 0.1]], [ints(0)], [ints()]) == [[3]]


def test_constant_scorer_gets_the_last_place() -> None:
    assert ranks_of([[0.0] * 50], [ints(7)], [ints(1, 2)]) == [[48]]


def test_nan_target_comes_last_and_nan_others_come_after_a_finite_target() -> None:
    nan, inf = float("nan"), float("inf")
    scores = [[nan, 0.1, -inf, nan], [nan, 0.1, nan, inf]]
    assert ranks_of(scores, [ints(0), ints(1)], [ints(), ints()]) == [[4], [2]]


def test_other_targets_stay_in_the_list() -> None:
    assert ranks_of([[4.0, 3.0, 2.0, 1.0]], [ints(3, 0)], [ints(1)]) == [[3, 1]]


def test_tied_targets_take_different_places_after_all_others() -> None:
    [ranks] = ranks_of([[1.0, 1.0, 1.0, 1.0, 0.0]], [ints(0, 1)], [ints()])
    assert sorted(ranks) == [3, 4]


def test_users_may_have_different_numbers_of_targets_even_none() -> None:
    scores = [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    assert ranks_of(scores, [ints(), ints(0, 2), ints(1)], [ints(), ints(1), ints()]) == [
        [],
        [2, 1],
        [2],
    ]


def test_no_users() -> None:
    assert worst_ranks(np.zeros((0, 5), dtype=np.float32), [], []) == []


def test_a_target_in_the_history_is_an_error() -> None:
    with pytest.raises(DataError, match="item 1 of the user at position 0"):
        ranks_of([[1.0, 2.0]], [ints(1)], [ints(1)])


def test_indices_outside_the_catalogue_are_an_error() -> None:
    with pytest.raises(DataError, match=r"outside 0\.\.1"):
        ranks_of([[1.0, 2.0]], [ints(2)], [ints()])
    with pytest.raises(DataError, match="history"):
        ranks_of([[1.0, 2.0]], [ints(1)], [ints(-1)])


def test_missing_rows_are_an_error() -> None:
    with pytest.raises(DataError, match="one row of each per user"):
        ranks_of([[1.0, 2.0]], [], [])


def naive_ranks(scores: np.ndarray, targets: np.ndarray, seen: np.ndarray) -> dict[int, int]:
    """Sort one user's candidates in pure Python, targets last among equals."""
    chosen = set(targets.tolist())
    candidates = [i for i in range(len(scores)) if i not in set(seen.tolist())]
    key = {i: -np.inf if np.isnan(scores[i]) else float(scores[i]) for i in candidates}
    ordered = sorted(candidates, key=lambda i: (-key[i], i in chosen))
    return {item: place for place, item in enumerate(ordered, start=1) if item in chosen}


@given(ranking_cases())
def test_agrees_with_a_naive_sort(
    case: tuple[np.ndarray, list[np.ndarray], list[np.ndarray]],
) -> None:
    scores, targets, seen = case
    for user, ranks in enumerate(worst_ranks(scores, targets, seen)):
        expected = naive_ranks(scores[user], targets[user], seen[user])
        values = np.where(np.isnan(scores[user]), -np.inf, scores[user])[targets[user]]
        assert sorted(ranks.tolist()) == sorted(expected.values())
        assert (values[np.argsort(ranks)][:-1] >= values[np.argsort(ranks)][1:]).all()


def test_chunks_do_not_change_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, size=(20, 30)).astype(np.float32)
    targets = [rng.choice(30, size=3, replace=False).astype(np.int64) for _ in range(20)]
    seen = [np.setdiff1d(np.arange(10), row).astype(np.int64) for row in targets]
    whole = worst_ranks(scores, targets, seen)
    monkeypatch.setattr("common.ranking.CELLS_PER_CHUNK", 70)
    pieces = worst_ranks(scores, targets, seen)
    assert all((a == b).all() for a, b in zip(whole, pieces, strict=True))

"""Ranks on a device are those of the reference, whatever the scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from common.errors import DataError
from common.ranking import worst_ranks
from simulations.evaluation.device_ranking import worst_ranks_on_device
from tests.common.ranking_cases import ranking_cases

Case = tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]


def as_lists(rows: list[np.ndarray]) -> list[list[int]]:
    return [row.tolist() for row in rows]


@given(ranking_cases())
def test_the_reference_is_reached(case: Case) -> None:
    """Ties, NaN and infinities included, and users without targets."""
    scores, targets, seen = case
    found = worst_ranks_on_device(torch.from_numpy(scores), targets, seen)
    assert as_lists(found) == as_lists(worst_ranks(scores, targets, seen))
    assert all(row.dtype == np.int64 for row in found)


def some_case(users: int = 20, items: int = 30) -> Case:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, size=(users, items)).astype(np.float32)
    targets = [rng.choice(items, size=3, replace=False).astype(np.int64) for _ in range(users)]
    return scores, targets, [np.setdiff1d(np.arange(10), row).astype(np.int64) for row in targets]


def test_chunks_do_not_change_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets, seen = some_case()
    whole = worst_ranks(scores, targets, seen)
    monkeypatch.setattr("simulations.evaluation.device_ranking.CELLS_PER_CHUNK", 70)
    assert as_lists(worst_ranks_on_device(torch.from_numpy(scores), targets, seen)) == as_lists(
        whole
    )


def test_a_target_in_the_history_is_refused() -> None:
    scores, items = torch.zeros(1, 5), np.array([2], dtype=np.int64)
    with pytest.raises(DataError, match="target item 2 .* is in that user's history"):
        worst_ranks_on_device(scores, [items], [items])


def test_nobody_has_no_rank() -> None:
    assert worst_ranks_on_device(torch.zeros(0, 5), [], []) == []


@pytest.mark.gpu
def test_the_same_ranks_on_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    scores, targets, seen = some_case(users=300, items=2000)
    found = worst_ranks_on_device(torch.from_numpy(scores).cuda(), targets, seen)
    assert as_lists(found) == as_lists(worst_ranks(scores, targets, seen))

"""The three objectives against hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch

from common.objectives import OBJECTIVES

TARGETS = torch.tensor([[1.0]])
OTHERS = torch.tensor([[[1.0, 0.0, -1.0]]])
ALLOWED = torch.tensor([[False, True, True]])
RATINGS = torch.tensor([[4.0]])


def test_ranking_is_cross_entropy_against_allowed_candidates() -> None:
    expected = math.log(math.e + 1.0 + math.exp(-1.0)) - 1.0
    assert OBJECTIVES["ranking"](TARGETS, OTHERS, ALLOWED, RATINGS).item() == pytest.approx(
        expected
    )


def test_click_is_binary_cross_entropy() -> None:
    expected = math.log1p(math.exp(-1)) + (math.log(2) + math.log1p(math.exp(-1))) / 2
    assert OBJECTIVES["click"](TARGETS, OTHERS, ALLOWED, RATINGS).item() == pytest.approx(expected)


def test_rating_is_squared_error() -> None:
    assert OBJECTIVES["rating"](TARGETS, OTHERS, ALLOWED, RATINGS).item() == pytest.approx(9.0)


@pytest.mark.parametrize("name", ["ranking", "click"])
def test_no_allowed_candidate_is_finite(name: str) -> None:
    loss = OBJECTIVES[name](TARGETS, OTHERS, torch.zeros(1, 3, dtype=torch.bool), RATINGS)
    assert torch.isfinite(loss).all()

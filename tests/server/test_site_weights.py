"""Public weights: what each rule gives, and what a released figure does to them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import FederationConfig
from server.site_weights import SCALE, SiteWeights


def fair(q: float = 2.0) -> SiteWeights:
    return SiteWeights(FederationConfig(weighting="fair", fairness_q=q))


def test_equal_and_declared() -> None:
    assert SiteWeights(FederationConfig()).weight("a", 7) == 1
    assert SiteWeights(FederationConfig(weighting="declared")).weight("a", 7) == 7


def test_fair_weights_start_equal_and_then_follow_the_shortfall() -> None:
    weights = fair()
    assert weights.weight("a", 7) == weights.weight("b", 900) == 1
    weights.heard("a", 0.5)
    weights.heard("b", 0.0)
    assert weights.weight("a", 7) == SCALE / 4
    assert weights.weight("b", 7) == SCALE
    assert weights.weight("new", 7) == round(SCALE * 0.75**2)  # as the mean of the others


def test_q_zero_is_equal() -> None:
    weights = fair(0.0)
    weights.heard("a", 0.9)
    weights.heard("b", 0.1)
    assert weights.weight("a", 1) == weights.weight("b", 1)


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 50))
def test_no_released_figure_gives_a_weight_out_of_bounds(utility: float, q: float) -> None:
    weights = fair(q)
    weights.heard("a", utility)
    assert 1 <= weights.weight("a", 1) <= SCALE


@pytest.mark.parametrize("utility", [math.nan])
def test_nothing_is_learnt_from_nothing(utility: float) -> None:
    weights = fair()
    weights.heard("a", utility)
    assert weights.weight("a", 1) == 1

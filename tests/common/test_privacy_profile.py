from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.accounting import Accountant, epsilon
from common.errors import PrivacyError, UnknownEventError
from common.gaussian_accounting import gaussian_delta
from common.privacy_events import (
    ComposedEvent,
    DistributedGaussianEvent,
    GaussianEvent,
    PrivacyEvent,
    SampledGaussianEvent,
)
from common.privacy_profile import DELTAS, LEAST_DELTA, delta, privacy_profile

DISTRIBUTED = DistributedGaussianEvent(2**19, 8, 2.0**20 + 158.2, 25_000, 0.1, 20)
HISTORIES: dict[str, list[PrivacyEvent]] = {
    "gaussian": [GaussianEvent(2.0, 3)],
    "sampled": [SampledGaussianEvent(1.0, 0.01, 1000)],
    "distributed": [DISTRIBUTED],
    "composed": [ComposedEvent((GaussianEvent(4.0), DISTRIBUTED)), GaussianEvent(9.0)],
}
ACCOUNTANTS: tuple[Accountant, ...] = ("prv", "rdp", "pld")

gaussians = st.lists(st.builds(GaussianEvent, st.floats(0.3, 50.0), st.integers(1, 5)), min_size=1)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_epsilon_falls_along_the_profile(
    history: list[PrivacyEvent], accountant: Accountant
) -> None:
    grid = (1e-6, 1e-4, 1e-2) if accountant == "pld" else DELTAS  # PLD composes for each
    profile = privacy_profile(history, grid, accountant)
    assert [point.delta for point in profile] == list(grid)
    spent = [point.epsilon for point in profile]
    assert spent == sorted(spent, reverse=True)
    assert spent[0] > spent[-1] > 0
    assert all(e <= epsilon(history, d, accountant) for d, e in profile)


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_profiles_of_the_accountants_lie_as_stated(history: list[PrivacyEvent]) -> None:
    grid = (1e-6, 1e-4)
    prv, rdp, pld = (privacy_profile(history, grid, name) for name in ACCOUNTANTS)
    for ours, loose, check in zip(prv, rdp, pld, strict=True):
        assert check.epsilon <= ours.epsilon <= check.epsilon + 0.02
        assert loose.epsilon >= ours.epsilon


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_delta_inverts_epsilon(history: list[PrivacyEvent], accountant: Accountant) -> None:
    for each in (1e-7, 1e-4):
        found = delta(history, epsilon(history, each, accountant), accountant)
        assert found <= each * 1.0011
        assert epsilon(history, found, accountant) <= epsilon(history, each, accountant)
        assert epsilon(history, found / 1.0011, accountant) > epsilon(history, each, accountant)


@pytest.mark.slow
def test_delta_by_pld_is_not_above_that_by_prv() -> None:
    history, at = HISTORIES["sampled"], 1.5
    assert delta(history, at, "pld") <= delta(history, at, "prv") <= delta(history, at, "rdp")


@settings(max_examples=60, deadline=None)
@given(gaussians, st.floats(0.0, 20.0))
def test_delta_is_never_below_the_exact_one(history: list[GaussianEvent], at: float) -> None:
    inverse = math.sqrt(sum(e.count / e.noise_multiplier**2 for e in history))
    exact = gaussian_delta(1 / inverse, at)
    found = delta(history, at)
    assert exact <= found
    assert found <= max(LEAST_DELTA, exact * 1.01) or at < 1e-6 or found == 1.0


@settings(max_examples=40, deadline=None)
@given(gaussians, st.floats(0.0, 10.0), st.floats(0.0, 10.0))
def test_delta_falls_with_epsilon(history: list[GaussianEvent], one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert delta(history, large) <= delta(history, small)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize("history", [[], [ComposedEvent(())]])
def test_no_release_costs_nothing(history: list[PrivacyEvent], accountant: Accountant) -> None:
    assert delta(history, 0.0, accountant) == 0.0
    assert {point.epsilon for point in privacy_profile(history, (1e-9, 0.5), accountant)} == {0.0}


def test_ends_of_the_scale() -> None:
    assert delta([GaussianEvent(1e-7)], 1.0) == 1.0  # hardly any noise: no claim
    assert delta([GaussianEvent(100.0)], 50.0) == LEAST_DELTA
    assert privacy_profile([GaussianEvent(1e-7)], (0.1,))[0].epsilon == math.inf
    assert privacy_profile([GaussianEvent(1.0)], ()) == ()


@pytest.mark.parametrize("at", [-1.0, math.inf, math.nan])
def test_epsilon_must_be_finite_and_not_negative(at: float) -> None:
    with pytest.raises(PrivacyError, match="epsilon must be"):
        delta([GaussianEvent(1.0)], at)


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(UnknownEventError, match="laplace"):
        delta(["laplace"], 1.0)  # type: ignore[list-item]
    with pytest.raises(UnknownEventError, match="laplace"):
        privacy_profile(["laplace"])  # type: ignore[list-item]
    for history in ([], [GaussianEvent(1.0)]):
        with pytest.raises(PrivacyError, match="accountant must be"):
            delta(history, 1.0, "gdp")  # type: ignore[arg-type]
    with pytest.raises(PrivacyError, match="delta must be"):
        privacy_profile([GaussianEvent(1.0)], (0.0,))

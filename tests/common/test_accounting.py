from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant

from common import accounting
from common.accounting import Accountant, epsilon
from common.errors import PrivacyError
from common.gaussian_accounting import gaussian_delta, gaussian_epsilon
from common.privacy_events import GaussianEvent, PrivacyEvent, SampledGaussianEvent

GAUSSIAN, SAMPLED = GaussianEvent, SampledGaussianEvent
GOLDEN = [SAMPLED(1.0, 0.01, 1000)]

MIXED: list[list[PrivacyEvent]] = [
    [SAMPLED(2.0, 0.1, 50), GAUSSIAN(4.0)],
    [GAUSSIAN(2.0), SAMPLED(3.0, 0.01, 500)],
    [SAMPLED(0.7, 0.02, 300), SAMPLED(1.3, 0.05, 100), GAUSSIAN(6.0, 3)],
    [SAMPLED(5.0, 0.5, 20), SAMPLED(4.0, 0.5, 20)],
    [GAUSSIAN(20.0), GAUSSIAN(15.0, 30), SAMPLED(12.0, 1.0, 10)],
]


def dp_accounting_epsilon(history: Sequence[PrivacyEvent], delta: float) -> float:
    """Event by event, as an auditor who knows nothing of our merging would."""
    accountant = PLDAccountant()
    for event in history:
        if isinstance(event, GaussianEvent):
            accountant.compose(dp_accounting.GaussianDpEvent(event.noise_multiplier), event.count)
        elif isinstance(event, SampledGaussianEvent):
            gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
            sampled = dp_accounting.PoissonSampledDpEvent(event.sample_rate, gaussian)
            accountant.compose(sampled, event.steps)
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize(
    ("accountant", "expected"), [("pld", 1.828), ("prv", 1.838), ("rdp", 2.101)]
)
def test_golden_values(accountant: Accountant, expected: float) -> None:
    assert epsilon(GOLDEN, 1e-5, accountant) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(("steps", "expected"), [(10, 17.857), (1000, 633.9)])
@pytest.mark.parametrize("accountant", ["prv", "pld"])
def test_golden_values_without_amplification(
    steps: int, expected: float, accountant: Accountant
) -> None:
    tolerance = 5e-4 if steps == 10 else 0.05
    sampled_always = epsilon([SAMPLED(1.0, 1.0, steps)], 1e-5, accountant)
    assert sampled_always == pytest.approx(expected, abs=tolerance)
    assert epsilon([GAUSSIAN(1.0, steps)], 1e-5, accountant) == sampled_always


def test_opacus_prv_at_rate_one_is_the_exact_gaussian() -> None:
    """What stands in for Opacus where everybody takes part agrees with Opacus."""
    opacus = PRVAccountant()
    opacus.history = [(10.0, 1.0, 50)]
    with np.errstate(divide="ignore"):
        upper_bound = opacus.get_epsilon(1e-4)
    exact = gaussian_epsilon(10.0 / math.sqrt(50), 1e-4)
    assert exact <= upper_bound <= exact + 0.0105
    assert epsilon([GAUSSIAN(10.0, 50)], 1e-4) == pytest.approx(exact, rel=2e-6)


def test_rdp_is_opacus() -> None:
    for sigma, rate, steps in [(1.0, 0.01, 1000), (5.0, 0.1, 50), (1.0, 1.0, 10)]:
        opacus = RDPAccountant()
        opacus.history = [(sigma, rate, steps)]
        assert epsilon([SAMPLED(sigma, rate, steps)], 1e-5, "rdp") == pytest.approx(
            opacus.get_epsilon(1e-5), rel=1e-9
        )


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "delta"),
    [
        *itertools.product([0.8, 3.0], [0.01, 0.2], [1, 200], [1e-5]),
        (1.0, 0.9, 5, 1e-4),
        (30.0, 0.5, 100, 1e-6),
    ],
)
def test_accountants_agree_over_a_grid(sigma: float, rate: float, steps: int, delta: float) -> None:
    history = [SAMPLED(sigma, rate, steps)]
    recorded, pld = epsilon(history, delta), epsilon(history, delta, "pld")
    assert pld <= recorded <= pld + 0.02
    assert epsilon(history, delta, "rdp") >= recorded


@pytest.mark.parametrize("history", MIXED)
def test_recorded_epsilon_of_a_mixed_history_covers_dp_accounting(
    history: list[PrivacyEvent],
) -> None:
    recorded = epsilon(history, 1e-5)
    independent = dp_accounting_epsilon(history, 1e-5)
    assert independent <= recorded <= independent + 0.02
    assert epsilon(history, 1e-5, "pld") == pytest.approx(independent, abs=1e-3)
    assert epsilon(history, 1e-5, "rdp") >= independent


def test_one_release_after_another_never_costs_less() -> None:
    history: list[PrivacyEvent] = []
    spent = [0.0]
    for event in [GAUSSIAN(4.0), SAMPLED(2.0, 0.1, 10), SAMPLED(2.0, 0.1, 10), GAUSSIAN(1.0)]:
        history.append(event)
        spent.append(epsilon(history, 1e-5))
    assert spent == sorted(spent)
    assert spent[2] < spent[3]


@pytest.mark.parametrize("accountant", ["prv", "rdp", "pld"])
def test_no_release_costs_nothing(accountant: Accountant) -> None:
    assert epsilon([], 1e-5, accountant) == 0.0


@pytest.mark.parametrize("accountant", ["prv", "rdp", "pld"])
@pytest.mark.parametrize("rate", [1e-3, 0.5, 1.0])
@pytest.mark.parametrize("sigma", [1e-2, 1e4])
def test_extreme_noise_is_answered(sigma: float, rate: float, accountant: Accountant) -> None:
    spent = epsilon([SAMPLED(sigma, rate, 50)], 1e-4, accountant)
    assert spent > 1000 if sigma < 1 else 0 <= spent < 0.02


def test_more_than_a_float_is_infinite() -> None:
    assert epsilon([GAUSSIAN(1e-200)], 1e-5) == math.inf


def test_below_prv_resolution_the_analytic_bounds_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    history = [SAMPLED(1.1, 0.02, 77)]
    monkeypatch.setattr(accounting, "_PRV_LARGEST_MESH", 10)
    recorded = epsilon(history, 1e-5)
    assert recorded == epsilon(history, 1e-5, "rdp")


def test_tiny_delta_is_never_under_reported() -> None:
    history = [SAMPLED(2.0, 0.1, 100)]
    recorded = epsilon(history, 1e-14)
    assert math.isfinite(recorded)
    assert recorded >= epsilon(history, 1e-13, "pld")


def test_epsilon_is_remembered_by_merged_history() -> None:
    accounting._epsilon_of.cache_clear()
    epsilon([SAMPLED(2.0, 0.1, 20), GAUSSIAN(3.0)], 1e-5)
    epsilon([SAMPLED(2.0, 0.1, 5), GAUSSIAN(3.0), SAMPLED(2.0, 0.1, 15)], 1e-5)
    info = accounting._epsilon_of.cache_info()
    assert (info.hits, info.misses) == (1, 1)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_must_be_a_probability(delta: float) -> None:
    with pytest.raises(PrivacyError, match="delta"):
        epsilon([GAUSSIAN(1.0)], delta)
    with pytest.raises(PrivacyError, match="delta"):
        gaussian_epsilon(1.0, delta)


def test_unknown_accountant_is_refused() -> None:
    with pytest.raises(PrivacyError, match="accountant must be"):
        epsilon([GAUSSIAN(1.0)], 1e-5, "gdp")  # type: ignore[arg-type]


@given(st.floats(0.01, 1000.0), st.floats(1e-12, 0.5))
def test_gaussian_epsilon_inverts_gaussian_delta(sigma: float, delta: float) -> None:
    spent = gaussian_epsilon(sigma, delta)
    if spent > 0:
        assert gaussian_delta(sigma, spent) == pytest.approx(delta, rel=1e-5)
    else:
        assert gaussian_delta(sigma, 0.0) <= delta

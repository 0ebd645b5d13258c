from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.accounting import epsilon
from common.errors import PrivacyError
from common.privacy_events import SampledGaussianEvent
from common.secagg.modular import from_signed, reduce
from common.secagg.quantisation import QuantisationPlan, dequantise, quantise
from tests.secagg_federation import make_spec

PLAN = QuantisationPlan(
    sites=10, min_honest=7, coordinates=25_000, max_grad_norm=0.7, noise_multiplier=1.0,
    site_units=94, rounds=100,
)  # fmt: skip


def test_rounding_costs_less_than_a_hundredth_of_the_noise() -> None:
    rng = np.random.default_rng(0)
    for sites in (3, 100):
        plan = replace(PLAN, sites=sites, min_honest=2)
        values = rng.normal(0, 0.1, (sites, plan.coordinates))
        whole = [quantise(row, rng.random(row.size), plan) for row in values]
        total = np.sum([from_signed(v, plan.modulus_bits) for v in whole], axis=0, dtype=np.uint64)
        error = dequantise(reduce(total, plan.modulus_bits), plan) - values.sum(axis=0)
        std = plan.noise_multiplier * plan.max_grad_norm
        assert np.abs(error).max() < 1e-4 * std  # a hundred times less than is asked


@given(st.integers(0, 2**32), st.integers(1, 64), st.floats(0, 1), st.integers(4, 20))
def test_neighbouring_sums_stay_within_the_sensitivity(
    seed: int, coordinates: int, share: float, grid_bits: int
) -> None:
    # The same U for both, any split of the unit's norm over the coordinates.
    plan = replace(PLAN, coordinates=coordinates, grid_bits=grid_bits, noise_multiplier=4.0)
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=coordinates) * rng.random(coordinates) ** (8 * share)
    unit *= plan.max_grad_norm / np.linalg.norm(unit)
    base = rng.normal(0, 30, coordinates)  # now and then beyond the clamp of 94 · 0.7
    uniform = rng.random(coordinates)
    moved = quantise(base + unit, uniform, plan) - quantise(base, uniform, plan)
    assert np.linalg.norm(moved.astype(float)) <= plan.sensitivity


def test_rounding_is_unbiased() -> None:
    plan = replace(PLAN, coordinates=200_000, grid_bits=4)
    value = 0.3 * plan.grid_step
    uniform = (np.arange(200_000) + 0.5) / 200_000  # every U once: no chance involved
    assert quantise(np.full(200_000, value), uniform, plan).mean() == pytest.approx(0.3)


def test_the_clamp_is_the_declared_sum() -> None:
    values = np.full(25_000, 1e9)
    values[0] = -1e9
    whole = quantise(values, np.full(25_000, 0.999), PLAN)
    assert whole.max() == PLAN.clamp == 94 * 2**20
    assert whole.min() == -PLAN.clamp


@pytest.mark.parametrize(("sites", "min_honest"), [(3, 1), (10, 7), (33, 20), (1000, 600)])
@pytest.mark.parametrize("noise_multiplier", [0.3, 1.0, 30.0])
def test_the_modulus_holds_the_worst_sum(
    sites: int, min_honest: int, noise_multiplier: float
) -> None:
    plan = replace(PLAN, sites=sites, min_honest=min_honest, noise_multiplier=noise_multiplier)
    # P(|Σ noise| > t) ≤ 2·exp(−t²/2nS²) for each of d · rounds numbers.
    left = 2.0 ** (plan.modulus_bits - 1) - 1 - sites * (plan.clamp + 1)
    log_wrap = math.log(2 * plan.coordinates * plan.rounds)
    log_wrap -= left**2 / (2 * sites * plan.share_std**2)
    assert log_wrap <= -40 * math.log(2)
    assert f"2^{plan.modulus_bits}" in plan.describe()
    assert "2^-40" in plan.describe()


@pytest.mark.parametrize("noise_multiplier", [0.3, 1.0, 10.0])
def test_the_shares_make_up_sigma_and_hardly_more(noise_multiplier: float) -> None:
    plan = replace(PLAN, noise_multiplier=noise_multiplier)
    equivalent = plan.event(0.1, 50).equivalent()
    assert noise_multiplier <= equivalent.noise_multiplier <= noise_multiplier * (1 + 1e-4)
    # The price in noise for the same ε: what rounding adds to the sensitivity.
    added = plan.share_std * math.sqrt(7) / (noise_multiplier * 2**20)
    assert 1 <= added < 1 + 2e-4
    planned = epsilon([SampledGaussianEvent(noise_multiplier, 0.1, 50)], 1e-4, "rdp")
    assert epsilon([plan.event(0.1, 50)], 1e-4, "rdp") == pytest.approx(planned, rel=1e-3)


def test_rounds_that_could_under_noise_are_refused() -> None:
    fields: dict[str, Any] = {"length": 25_000, "modulus_bits": PLAN.modulus_bits}
    PLAN.check_round(make_spec(10, 2, 1, **fields))
    with pytest.raises(PrivacyError, match="honest"):
        PLAN.check_round(make_spec(10, 2, 2, **fields))
    with pytest.raises(PrivacyError, match="planned"):
        PLAN.check_round(make_spec(11, 2, 1, **fields))
    with pytest.raises(PrivacyError, match="planned"):
        PLAN.check_round(make_spec(10, 2, 1, **fields | {"length": 24_999}))


@pytest.mark.parametrize(
    "changed",
    [{"sites": 0}, {"min_honest": 11}, {"max_grad_norm": 0.0}, {"noise_multiplier": math.nan},
     {"noise_multiplier": 1e4}, {"grid_bits": 31}, {"grid_bits": 0}, {"rounds": 0},
     {"site_units": 2**31, "grid_bits": 30}],
)  # fmt: skip
def test_impossible_plans_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError):
        replace(PLAN, **changed)


def test_sums_that_cannot_be_released_are_refused() -> None:
    uniform = np.zeros(25_000)
    with pytest.raises(PrivacyError, match="shape"):
        quantise(np.zeros(3), uniform, PLAN)
    with pytest.raises(PrivacyError, match="finite"):
        quantise(np.full(25_000, math.nan), uniform, PLAN)

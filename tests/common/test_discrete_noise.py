"""The discrete Gaussian: exact in distribution, in the sum of sites, and in its decisions."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from scipy import stats

from common import discrete_noise
from common.discrete_noise import discrete_gaussian, happens_exp, masked_sum_input
from common.randomness import RandomSource, secure_source, seeded_source
from common.secagg.modular import reduce, to_signed
from common.secagg.quantisation import QuantisationPlan, dequantise
from tests.secagg_federation import STAGES, Federation, make_spec

FALSE_ALARM = 1e-6  # of each statistical test, on a correct build


def pmf(std: float, reach: int) -> np.ndarray:
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * std**2))
    return weights / weights.sum()


def binned(draws: np.ndarray, expected: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and expected counts, neighbouring values merged until 20 are expected."""
    counts = np.bincount(np.clip(draws, -reach, reach) + reach, minlength=2 * reach + 1)
    _, bins = np.unique(np.floor(np.cumsum(expected * len(draws)) / 20), return_inverse=True)
    bins = np.minimum(bins, bins[-1] - 1)  # the last one may be short
    return np.bincount(bins, counts), np.bincount(bins, expected * len(draws))


@pytest.mark.statistical
@pytest.mark.parametrize("std", [1, 2, 3, 10, 1000])
def test_draws_follow_the_discrete_gaussian(std: int) -> None:
    draws = discrete_gaussian(std, 200_000, secure_source())
    reach = 12 * std
    counts, expected = binned(draws, pmf(std, reach), reach)
    assert stats.chisquare(counts, expected).pvalue > FALSE_ALARM


@pytest.mark.statistical
@pytest.mark.parametrize("std", [10, 1000])
def test_another_distribution_is_rejected(std: int) -> None:
    # What a wrong sampler would draw: nine tenths of σ, and a rounded-down normal.
    source, reach = secure_source(), 12 * std
    short = discrete_gaussian(round(0.9 * std), 200_000, source)
    floored = np.floor(std * source.normal(200_000)).astype(np.int64)
    for draws in (short, floored) if std < 100 else (short,):
        counts, expected = binned(draws, pmf(std, reach), reach)
        assert stats.chisquare(counts, expected).pvalue < FALSE_ALARM


@pytest.mark.statistical
@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (1, 2), (1, 1), (5, 2), (7, 3)])
def test_events_have_their_probability(numerator: int, denominator: int) -> None:
    trials = 100_000
    happens = happens_exp(np.full(trials, numerator), denominator, secure_source())
    expected = math.exp(-numerator / denominator)
    assert stats.binomtest(int(happens.sum()), trials, expected).pvalue > FALSE_ALARM


@pytest.mark.parametrize(("numerator", "denominator"), [(1, 2), (3, 1), (12345, 6789), (40, 1)])
@pytest.mark.parametrize("offset", [-2, -1, 0, 1])
def test_close_calls_are_decided_exactly(
    numerator: int, denominator: int, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 64 bits right at exp(−p/q): far closer than float64 can tell.
    getcontext().prec = 120
    probability = (Decimal(-numerator) / Decimal(denominator)).exp()
    bits = int(probability * 2**64) + offset
    words = iter([bits >> 32, bits & (2**32 - 1)])
    further = 0x80000000  # 96 bits: the middle of the cell that 64 bits leave

    def integers(self: RandomSource, high: int, n: int) -> np.ndarray:
        return np.array([next(words, further)] * n, np.int64)

    monkeypatch.setattr(RandomSource, "integers", integers)
    happened = bool(happens_exp(np.array([numerator]), denominator, seeded_source(0))[0])
    if offset:
        assert happened == (offset < 0)
    else:  # within the cell: compare with its middle, to many more digits than 96 bits
        middle = (Decimal(bits) + Decimal(further) / 2**32) / 2**64
        assert happened == (middle < probability)


def test_close_calls_are_rare_but_everything_agrees_when_all_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The filter only saves time: with every event decided by decimals, nothing changes.
    quick = discrete_gaussian(5, 200, seeded_source(3))
    monkeypatch.setattr(discrete_noise, "_MARGIN", 1e9)
    np.testing.assert_array_equal(discrete_gaussian(5, 200, seeded_source(3)), quick)


def test_impossible_noise_is_refused() -> None:
    for std in (0, 2**28 + 1):
        with pytest.raises(ValueError, match="std"):
            discrete_gaussian(std, 1, seeded_source(0))
    assert discrete_gaussian(2**28, 3, seeded_source(0)).shape == (3,)
    assert discrete_gaussian(4, 0, seeded_source(0)).shape == (0,)


def summed(plan: QuantisationPlan, values: np.ndarray, source: RandomSource) -> np.ndarray:
    total = sum(masked_sum_input(row, plan, source) for row in values)
    return dequantise(reduce(np.asarray(total), plan.modulus_bits), plan)


@pytest.mark.statistical
def test_noise_in_the_sum_is_accepted_at_sigma_and_rejected_at_nine_tenths() -> None:
    plan = QuantisationPlan(6, 6, 20_000, 0.5, 1.3, 40, 100)
    values = np.random.default_rng(0).normal(0, 0.01, (6, 20_000))
    noise = summed(plan, values, secure_source()) - values.sum(axis=0)
    sensitivity = plan.sensitivity * plan.grid_step
    squares = float(np.sum(noise**2)) / (1.3 * sensitivity) ** 2
    low, high = stats.chi2.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], 20_000)
    assert low < squares < high
    assert not low < squares * 0.9**2 < high  # had the noise been 0.9σ …
    assert not low < squares / 0.9**2 < high  # … or the claim
    assert stats.kstest(noise / (1.3 * sensitivity), "norm").pvalue > FALSE_ALARM


@pytest.mark.statistical
def test_sites_noises_do_not_correlate() -> None:
    plan = QuantisationPlan(2, 2, 50_000, 1.0, 1.0, 40, 100)
    zeros = np.zeros(50_000)
    one, other = (
        to_signed(masked_sum_input(zeros, plan, secure_source()), plan.modulus_bits)
        for _ in range(2)
    )
    correlation = np.corrcoef(one, other)[0, 1]
    assert abs(correlation) * math.sqrt(50_000) < stats.norm.isf(FALSE_ALARM / 2)


@pytest.mark.statistical
@pytest.mark.parametrize("seed", range(4))
def test_whatever_vanishes_the_noise_never_falls_below_sigma(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sites, dropouts, length = 9, 3, 5_000
    plan = QuantisationPlan(sites, sites - dropouts, length, 1.0, 1.0, 10, 1)
    spec = make_spec(sites, dropouts, length=length, modulus_bits=plan.modulus_bits)
    plan.check_round(spec)
    vectors = {
        s: masked_sum_input(np.zeros(length), plan, secure_source()) for s in spec.participants
    }
    lost = rng.choice(spec.participants, rng.integers(0, dropouts + 1), replace=False)
    vanish = {str(s): str(rng.choice(STAGES)) for s in lost}
    total = dequantise(Federation(spec).run(vectors, vanish), plan)
    summands = sites - sum(stage in STAGES[:3] for stage in vanish.values())
    variance = summands / plan.min_honest * (plan.sensitivity * plan.grid_step) ** 2
    low, high = stats.chi2.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], length)
    assert low < float(np.sum(total**2)) / variance < high
    assert summands >= plan.min_honest

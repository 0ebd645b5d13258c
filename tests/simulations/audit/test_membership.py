import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from common.errors import PrivacyError
from simulations.audit.membership_audit import MembershipEvidence, audit_membership
from simulations.audit.membership_scores import calibrated_scores, loss_scores, rmia_scores
from simulations.audit.membership_statistics import auc, rate_at
from simulations.audit.one_run.trade_off import GaussianTradeOff


def normal(shift, n=500, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, n), rng.normal(0, 1, n)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=9), st.lists(st.integers(0, 5), min_size=2))
def test_auc_counts_pairs_and_halves_ties(first, second):
    members, others = np.array(first, float), np.array(second, float)
    pairs = np.sign(members[:, None] - others[None]) / 2 + 0.5
    area = auc(members, others)
    assert area.value == pytest.approx(pairs.mean())
    assert area.low - 1e-12 <= area.value <= area.high + 1e-12


def test_delong_variance_is_that_of_the_u_statistic():
    members, others = normal(0.5, 60)
    wins = (members[:, None] > others[None]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / 60 + wins.mean(axis=0).var(ddof=1) / 60
    area = auc(members, others)
    scale = area.value * (1 - area.value)
    width = np.log(area.high / (1 - area.high)) - np.log(area.low / (1 - area.low))
    assert width == pytest.approx(2 * 1.959964 * np.sqrt(variance) / scale)


def test_perfect_order_still_has_an_interval():
    area = auc(np.arange(10, 20.0), np.arange(10.0))
    assert area.value == area.high == 1
    assert 0.75 < area.low < 0.95
    mirrored = auc(np.arange(10.0), np.arange(10, 20.0))
    assert mirrored.high == pytest.approx(1 - area.low)


def test_rate_point():
    others = np.arange(1000.0)
    members = np.concatenate([np.full(30, 2000.0), np.zeros(70)])
    point = rate_at(members, others, 0.01)
    assert point.threshold == 989  # ten of 1,000 are above it
    assert point.true_positives.value == pytest.approx(0.3)
    assert point.true_positives.low == pytest.approx(0.2124, abs=1e-4)  # Clopper–Pearson's table
    assert point.true_positives.high == pytest.approx(0.3998, abs=1e-4)
    assert point.false_alarm_bound == pytest.approx(0.0183, abs=1e-4)


def test_rare_rates_need_a_thousand_others():
    members = np.ones(50)
    assert rate_at(members, np.zeros(999), 0.001) is None
    assert rate_at(members, np.zeros(1000), 0.001).true_positives.value == 1
    assert rate_at(members, np.zeros(99), 0.01) is None


def test_scores_are_higher_for_better_fit():
    assert loss_scores(np.array([1.0, 2.0])).tolist() == [-1, -2]
    assert calibrated_scores(np.array([1.0, 2.0]), np.array([3.0, 2.0])).tolist() == [2, 0]


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), st.floats(0.5, 2), st.integers(0, 10**6))
def test_rmia_is_the_formula(a, gamma, seed):
    rng = np.random.default_rng(seed)
    p, out = rng.uniform(0.01, 1, 7), rng.uniform(0.01, 1, (3, 7))
    z, z_out = rng.uniform(0.01, 1, 11), rng.uniform(0.01, 1, (3, 11))
    ours = p / (((1 + a) * out.mean(0) + (1 - a)) / 2)
    theirs = z / (((1 + a) * z_out.mean(0) + (1 - a)) / 2)
    expected = (ours[:, None] / theirs[None] >= gamma).mean(axis=1)
    assert rmia_scores(p, out, z, z_out, a, gamma) == pytest.approx(expected)


def test_rmia_halves_equal_ratios():
    same = np.full(4, 0.5)
    assert rmia_scores(same, same[None], same, same[None], 0.3).tolist() == [0.5] * 4


def test_others_that_are_the_population_keep_the_order_of_the_ratios():
    rng = np.random.default_rng(0)
    members, others, one = rng.uniform(0.3, 1, 9), rng.uniform(0.1, 0.9, 30), np.ones(30)
    inside = rmia_scores(members, one[None, :9], others, one[None], 1.0)
    outside = rmia_scores(others, one[None], others, one[None], 1.0)
    assert auc(inside, outside) == auc(members, others)
    best = members[members > others.max()]
    assert len(best) > 0
    assert (inside > outside.max()).sum() == len(best)


def test_wrong_scores_are_refused():
    half = np.full(4, 0.5)
    with pytest.raises(PrivacyError, match="probabilities in"):
        rmia_scores(half * 0, half[None], half, half[None], 0.3)
    with pytest.raises(PrivacyError, match="references, users"):
        rmia_scores(half, half, half, half[None], 0.3)
    with pytest.raises(PrivacyError, match="a in \\[0, 1\\]"):
        rmia_scores(half, half[None], half, half[None], 1.3)
    with pytest.raises(PrivacyError, match="two numbers for members"):
        auc(np.array([np.nan, 1]), np.zeros(3))


def finding(shift, claimed, n=2000):
    members, others = normal(shift, n)
    return audit_membership(
        MembershipEvidence(members, others, "loss", "the final adapter", claimed), 0.05
    )


def test_gate():
    assert finding(1.0, GaussianTradeOff(1.0)).verdict == "pass"
    assert finding(2.5, GaussianTradeOff(1.0)).refutes
    caught = finding(2.5, None)
    assert caught.verdict == "not_testable"
    assert caught.statistic["auc_low"] > 0.9
    assert caught.statistic["tpr_at_0.1_percent"] > 0.1
    few = finding(2.5, GaussianTradeOff(1.0), n=99)
    assert few.verdict == "not_testable"
    assert few.statistic["tpr_at_1_percent"] == "unsupported"


@pytest.mark.statistical
def test_intervals_cover():
    # Nominal 95%: fewer than 272 of 300 happens with probability 0.002.
    true = norm.cdf(1 / np.sqrt(2))
    areas = [auc(*normal(1.0, 80, seed)) for seed in range(300)]
    assert sum(area.low <= true <= area.high for area in areas) >= 272


@pytest.mark.statistical
def test_the_gate_fails_a_true_claim_no_more_often_than_stated():
    # A claim that is exactly tight, few others, α = 20%: more than 53 of 200 is p = 0.01.
    curve, wrong = GaussianTradeOff(1.5), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores = MembershipEvidence(
            rng.normal(1.5, 1, 400), rng.normal(0, 1, 120), "loss", "one step", curve
        )
        wrong += audit_membership(scores, 0.2).verdict == "fail"
    assert wrong <= 53

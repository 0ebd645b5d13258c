import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from common.accounting import epsilon
from common.errors import PrivacyError
from common.privacy_events import GaussianEvent, SampledGaussianEvent
from simulations.audit.one_run import f_dp, steinke
from simulations.audit.one_run.canary_audit import (
    CanaryEvidence,
    audit_canaries,
    least_right_guesses,
)
from simulations.audit.one_run.canary_scores import dirac_scores
from simulations.audit.one_run.guesses import Guesses, guess
from simulations.audit.one_run.trade_off import (
    GaussianTradeOff,
    ProfileTradeOff,
    claimed_trade_off,
)

outcomes = st.integers(1, 200).flatmap(
    lambda made: st.builds(Guesses, st.integers(made, 1000), st.just(made), st.integers(0, made))
)
epsilons = st.floats(0, 8)


def p_by_definition(guesses, eps, delta):
    q = np.exp(eps) / (1 + np.exp(eps))
    v, r = guesses.right, guesses.made
    beta = binom.sf(v - 1, r, q)
    ratios = [(binom.cdf(v - 1, r, q) - binom.cdf(v - i - 1, r, q)) / i for i in range(1, v + 1)]
    return min(1, beta + 2 * guesses.canaries * delta * max(ratios, default=0))


@settings(deadline=None)
@given(outcomes, epsilons, st.sampled_from([0, 1e-6, 1e-3, 0.1]))
def test_p_value_is_the_theorem(guesses, eps, delta):
    assert steinke.p_value(guesses, eps, delta) == pytest.approx(
        p_by_definition(guesses, eps, delta), abs=1e-9
    )


@settings(deadline=None)
@given(outcomes, epsilons, st.floats(0, 2), st.sampled_from([0, 1e-6, 1e-3]))
def test_a_stronger_claim_has_the_smaller_p_value(guesses, eps, more, delta):
    # Where a claim is near refutation at all: p ≤ 1/2.
    larger = steinke.p_value(guesses, eps + more, delta)
    if larger <= 0.5:
        assert steinke.p_value(guesses, eps, delta) <= larger + 1e-12


@settings(max_examples=40, deadline=None)
@given(outcomes, st.sampled_from([1e-6, 1e-4]))
def test_more_right_guesses_never_show_less(guesses, delta):
    if guesses.right == guesses.made:
        return
    better = Guesses(guesses.canaries, guesses.made, guesses.right + 1)
    for bound in (steinke.epsilon_lower_bound, f_dp.gaussian_epsilon_lower_bound):
        assert bound(better, delta, 0.05) >= bound(guesses, delta, 0.05) - 1e-7


@settings(max_examples=40, deadline=None)
@given(outcomes, st.floats(0.01, 4), st.floats(0, 1))
def test_a_weaker_gaussian_claim_is_harder_to_refute(guesses, mu, more):
    weak = f_dp.refutation(guesses, GaussianTradeOff(mu + more), 0.05)
    assert weak <= f_dp.refutation(guesses, GaussianTradeOff(mu), 0.05) + 1e-12


@settings(max_examples=30, deadline=None)
@given(outcomes, st.floats(0.1, 3))
def test_p_value_of_f_dp_agrees_with_the_gate(guesses, mu):
    curve = GaussianTradeOff(mu)
    p = f_dp.p_value(guesses, curve)
    if p < 1:
        assert f_dp.refutation(guesses, curve, min(p, 1 - 1e-9)) > 0
    if p > 2e-12:
        assert f_dp.refutation(guesses, curve, p / 1.01) <= 0


def test_edges():
    nothing, none_right = Guesses(100, 0, 0), Guesses(100, 50, 0)
    for bound in (steinke.epsilon_lower_bound, f_dp.gaussian_epsilon_lower_bound):
        assert bound(nothing, 1e-5, 0.05) == 0
        assert bound(none_right, 1e-5, 0.05) == 0
    assert steinke.p_value(nothing, 1.0, 1e-5) == 1
    assert f_dp.p_value(nothing, GaussianTradeOff(1.0)) == 1
    assert steinke.epsilon_lower_bound(Guesses(100, 50, 40), 1.0, 0.05) == 0
    # All right at δ = 0: q^r = α.
    q = 0.05 ** (1 / 400)
    exact = np.log(q / (1 - q))
    assert steinke.power_ceiling(2000, 400, 0, 0.05) == pytest.approx(exact, rel=1e-6)
    assert steinke.power_ceiling(2000, 400, 0, 0.05) == pytest.approx(np.log(400 / 3), abs=0.01)


def test_more_canaries_can_lower_the_bound_through_m_delta():
    few, many = Guesses(400, 400, 300), Guesses(40_000, 400, 300)
    few_bound, many_bound = (steinke.epsilon_lower_bound(g, 1e-5, 0.05) for g in (few, many))
    assert many_bound < few_bound


def test_guesses_are_counted_from_both_ends():
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    included = np.array([True, False, True, False, True])
    assert guess(scores, included, 2, 2) == Guesses(5, 4, 2)
    assert guess(scores, included, 0, 0) == Guesses(5, 0, 0)
    assert guess(scores, included, 5, 0) == Guesses(5, 5, 3)


@pytest.mark.parametrize(
    ("scores", "k", "words"),
    [
        (np.zeros(3), (1, 1), "of one length"),
        (np.array([0, 1, 2, np.nan]), (1, 1), "1 canary scores are NaN"),
        (np.zeros(4), (3, 2), "cannot guess 3 in and 2 out of 4"),
    ],
)
def test_wrong_evidence_is_refused(scores, k, words):
    with pytest.raises(PrivacyError, match=words):
        guess(scores, np.array([True, False, True, False]), *k)
    with pytest.raises(PrivacyError, match="0 <= right <= made <= canaries"):
        Guesses(10, 5, 6)


def test_curve_of_a_grid_lies_just_under_the_gaussian():
    exact = GaussianTradeOff(0.7)
    curve = claimed_trade_off([SampledGaussianEvent(1 / 0.7, 1 - 1e-12, 1)])
    assert isinstance(curve, ProfileTradeOff)
    for x in (1e-6, 1e-3, 0.01, 0.2, 0.5, 0.9, 0.999):
        assert curve.least_miss_rate(x) == pytest.approx(exact.least_miss_rate(x), rel=2e-3)
        assert curve.least_miss_rate(x) <= exact.least_miss_rate(x) + 1e-12
        assert curve.blow_up_inverse(x) == pytest.approx(curve.least_miss_rate(1 - x), abs=1e-12)
        assert curve.blow_up_inverse(x) == pytest.approx(exact.blow_up_inverse(x), rel=0.02)


def test_full_participation_is_one_gaussian():
    curve = claimed_trade_off([GaussianEvent(2.0, 4), SampledGaussianEvent(4.0, 1.0, 16)])
    assert isinstance(curve, GaussianTradeOff)
    assert curve.mu == pytest.approx(np.sqrt(4 / 4 + 16 / 16))


def test_curve_of_sampled_steps_is_their_privacy_profile():
    history = [SampledGaussianEvent(2.839, 0.05, 200)]
    curve = claimed_trade_off(history)
    eps = epsilon(history, 1e-3, "pld")
    i = int(np.abs(curve.epsilons - eps).argmin())
    assert curve.deltas[i] == pytest.approx(1e-3, rel=0.05)
    with pytest.raises(PrivacyError, match="empty history"):
        claimed_trade_off([])


def test_dirac_score_is_the_log_likelihood_ratio():
    x = np.array([[0.3, -1.0], [2.0, 0.0]])
    by_hand = np.log(0.9 + 0.1 * np.exp((2 * x - 1) / (2 * 1.5**2))).sum(axis=0)
    assert dirac_scores(x, 1.5, 0.1) == pytest.approx(by_hand)
    assert dirac_scores(x, 1.5, 1.0) == pytest.approx(((2 * x - 1) / 4.5).sum(axis=0))
    assert np.isfinite(dirac_scores(x * 1e6, 0.01, 0.1)).all()
    with pytest.raises(PrivacyError, match="noise multiplier above 0"):
        dirac_scores(x, 0.0, 0.1)


HISTORY = (SampledGaussianEvent(2.839, 0.05, 200),)


def evidence(noise, seed, m=2000):
    rng = np.random.default_rng(seed)
    included = rng.random(m) < 0.5
    x = (rng.random((200, m)) < 0.05) * included + noise * 2.839 * rng.standard_normal((200, m))
    return CanaryEvidence(
        dirac_scores(x, 2.839, 0.05), included, 200, 200, HISTORY, 1e-5, "one step", "dirac"
    )


def test_correct_noise_passes_and_no_noise_fails():
    for finding in audit_canaries(evidence(1.0, seed=1), 0.025):
        assert finding.verdict == "pass"
        assert finding.epsilon_lower_bound < 1
    for finding in audit_canaries(evidence(1e-3, seed=1), 0.025):
        assert finding.refutes
        assert finding.epsilon_lower_bound > 4


def test_a_gate_that_could_not_fail_is_not_a_pass():
    few = evidence(1.0, seed=2, m=40)
    small = CanaryEvidence(few.scores, few.included, 2, 2, HISTORY, 1e-5, "one step", "dirac")
    one_run, by_curve = audit_canaries(small, 0.05)
    assert one_run.verdict == "not_testable"
    assert "could not have failed" in one_run.power
    assert by_curve.statistic["least_right_to_refute"] in (None, 4)
    assert least_right_guesses(4, 4, GaussianTradeOff(6.0), 0.05) is None


def test_biased_coins_are_refused():
    with pytest.raises(PrivacyError, match="no fair coins"):
        CanaryEvidence(np.zeros(99), np.ones(99, bool), 1, 1, HISTORY, 1e-5, "one step", "x")


@pytest.mark.statistical
def test_randomised_response_is_refuted_no_more_often_than_stated():
    # The worst (ε, 0)-private mechanism: each bit kept with probability q. A true claim may be
    # refuted with probability 5%: more than 71 of 1,000 happens with probability 0.0013.
    rng = np.random.default_rng(0)
    q = np.e / (1 + np.e)
    right = rng.binomial(300, q, size=1000)
    refuted = sum(steinke.p_value(Guesses(300, 300, int(v)), 1.0, 0.0) < 0.05 for v in right)
    assert 20 <= refuted <= 71  # a bound that never fails would be loose here


@pytest.mark.statistical
def test_a_gaussian_mechanism_is_refuted_no_more_often_than_stated():
    # False alarms at most 5%: more than 24 of 300 happens with probability 0.012 at exactly 5%.
    rng = np.random.default_rng(0)
    curve, refuted = GaussianTradeOff(1.0), 0
    for _ in range(300):
        included = rng.random(500) < 0.5
        seen = guess(included + rng.standard_normal(500), included, 25, 25)
        refuted += f_dp.refutation(seen, curve, 0.05) > 0
    assert refuted <= 24

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import PrivacyError
from simulations.audit.sampler_statistics import SamplerTrace, audit_sampler, sampler_counts

STEPS, UNITS, RATE = 2000, 200, 0.05


def poisson(rng, steps=STEPS, units=UNITS, rate=RATE):
    return rng.random((steps, units)) < rate


def shuffling(rng, batch=10):
    rows = []
    while len(rows) < STEPS:
        for part in np.split(rng.permutation(UNITS), UNITS // batch):
            rows.append(np.isin(np.arange(UNITS), part))
    return np.array(rows[:STEPS])


def fixed_batch(rng, batch=10):
    order = rng.random((STEPS, UNITS)).argsort(axis=1)
    return order < batch


def sticky(rng):
    """The right rate in every step, but who was in the last one is in again more often."""
    rows = [rng.random(UNITS) < RATE]
    for _ in range(STEPS - 1):
        again = rng.random(UNITS) < 0.2
        rows.append(np.where(again, rows[-1], rng.random(UNITS) < RATE))
    return np.array(rows)


def one_favoured(rng):
    trace = poisson(rng)
    trace[:, 7] |= rng.random(STEPS) < 0.04
    return trace


def unequal(rng):
    return rng.random((STEPS, UNITS)) < RATE * rng.uniform(0.8, 1.2, UNITS)


def failed(trace, rate=RATE, alpha=0.01):
    findings = audit_sampler(SamplerTrace(trace, rate), alpha)
    assert sum(finding.alpha or 0 for finding in findings) <= alpha + 1e-12
    return {f.name.removeprefix("sampler.") for f in findings if f.verdict == "fail"}


def test_poisson_sampler_passes():
    assert failed(poisson(np.random.default_rng(0))) == set()


@pytest.mark.parametrize(
    ("sampler", "caught_by"),
    [
        (shuffling, {"unit_spread", "batch_spread", "once_per_epoch"}),
        (fixed_batch, {"batch_spread"}),
        (sticky, {"lag_1", "gap_1"}),
        (one_favoured, {"favoured_unit"}),
        (unequal, {"unit_spread"}),
    ],
)
def test_wrong_sampler_is_caught_by_name(sampler, caught_by):
    assert caught_by <= failed(sampler(np.random.default_rng(1)))


def test_fixed_batch_is_caught_by_nothing_else():
    assert failed(fixed_batch(np.random.default_rng(1))) == {"batch_spread"}


@pytest.mark.parametrize("rate", [0.048, 0.053, 0.5, 0.001])
def test_wrong_rate_is_caught(rate):
    assert "inclusions" in failed(poisson(np.random.default_rng(2)), rate=rate)


def test_full_participation_is_exact():
    everybody = np.ones((50, 20), dtype=bool)
    (finding,) = audit_sampler(SamplerTrace(everybody, 1.0), 0.05)
    assert finding.verdict == "pass"
    assert finding.alpha is None
    everybody[3, 4] = False
    (finding,) = audit_sampler(SamplerTrace(everybody, 1.0), 0.05)
    assert finding.refutes
    assert finding.statistic["missing"] == 1


def test_too_few_steps_are_not_testable_not_passed():
    findings = audit_sampler(SamplerTrace(np.zeros((1, 3), dtype=bool), 0.2), 0.05)
    verdicts = {f.name.removeprefix("sampler."): f.verdict for f in findings}
    assert verdicts["once_per_epoch"] == verdicts["lag_1"] == verdicts["gap_1"] == "not_testable"


def test_sites_are_sampled_too():
    findings = audit_sampler(SamplerTrace(poisson(np.random.default_rng(0)), RATE, "sites"), 0.05)
    assert any("sites" in finding.reason for finding in findings)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_counts_are_possible_whatever_the_shape(steps, units, rate, seed):
    trace = SamplerTrace(poisson(np.random.default_rng(seed), steps, units, rate), rate)
    for count in sampler_counts(trace):
        assert 0 <= count.seen <= count.trials
        assert 0 <= count.probability <= 1
        assert 0 <= count.p_value <= 1
    audit_sampler(trace, 0.05)


def test_wrong_traces_are_refused():
    with pytest.raises(PrivacyError, match="boolean \\[steps, units\\]"):
        SamplerTrace(np.zeros((3, 3)), 0.1)
    with pytest.raises(PrivacyError, match="record at least one step"):
        SamplerTrace(np.zeros((0, 3), dtype=bool), 0.1)
    with pytest.raises(PrivacyError, match="claimed sample rate"):
        SamplerTrace(np.zeros((3, 3), dtype=bool), 0.0)


@pytest.mark.statistical
@pytest.mark.parametrize("rate", [0.05, 0.31])
def test_each_count_has_the_stated_mean(rate):
    # Mean of every count over 200 traces within 4.5 deviations: false alarm below 1e-4.
    rng = np.random.default_rng(3)
    totals = {}
    for _ in range(200):
        for count in sampler_counts(SamplerTrace(poisson(rng, 300, 30, rate), rate)):
            seen, trials, _ = totals.get(count.name, (0, 0, 0))
            totals[count.name] = (seen + count.seen, trials + count.trials, count.probability)
    for seen, trials, p in totals.values():
        assert abs(seen - trials * p) < 4.5 * np.sqrt(trials * p * (1 - p))


@pytest.mark.statistical
def test_a_correct_sampler_fails_no_more_often_than_stated():
    # α = 20% in all: more than 53 of 200 happens with probability 0.01.
    rng = np.random.default_rng(4)
    wrong = [bool(failed(poisson(rng, 300, 40), alpha=0.2)) for _ in range(200)]
    assert 2 <= sum(wrong) <= 53

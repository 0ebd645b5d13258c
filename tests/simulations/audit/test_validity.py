"""Correct runs: a seeded few here, two hundred by `make audit-validity`."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from simulations.audit.finding import Finding, Verdict
from simulations.audit.validity import (
    ALPHA,
    GATES,
    MOST_FAILURES,
    RUNS,
    alarms,
    audited_once,
    correct_case,
    counted,
)

FEW = 10


def test_the_allowed_count_is_the_one_that_a_correct_build_hardly_passes() -> None:
    assert binom.sf(MOST_FAILURES, RUNS, ALPHA) < 0.01


@pytest.mark.slow
@pytest.mark.statistical
def test_a_few_correct_runs_stay_within_their_gates() -> None:
    case = correct_case()
    counts = counted([audited_once(case, seed) for seed in range(FEW)])
    assert [each.gate for each in counts] == list(GATES)
    for each in counts:
        # P[Bin(10, 5%) > 3] = 0.1%; the seeds are fixed, so that it happens never or always
        assert each.failures <= (0 if each.gate == "step" else 3), each
        assert (each.above or 0) <= 3, each
    assert counts[1].largest is not None
    assert counts[1].largest > 0.5  # the tight gate does see the canary


def _finding(name: str, verdict: Verdict, alpha: float | None) -> Finding:
    return Finding(
        check="A3", name=name, view="the code", gate=True, verdict=verdict, reason="", alpha=alpha
    )


def test_false_alarms_are_held_against_each_check_s_own_rate() -> None:
    verdicts: list[Verdict] = ["pass", "fail", *["pass"] * 48]
    runs = [
        [
            _finding("drawn", each, 1e-5),
            _finding("exact", "pass", None),
            _finding("loose", each, 0.05),
        ]
        for each in verdicts
    ]
    drawn, exact, loose = alarms(runs)
    assert (drawn.runs, drawn.failures, drawn.rate) == (50, 1, 1e-5)
    assert not drawn.as_stated  # 50 · 1e-5 is less than 1 in 1,000
    assert exact.as_stated
    assert loose.as_stated
    assert not alarms([[_finding("exact", "fail", None)]])[0].as_stated

"""Totals recomputed from releases: golden values, agreement, and what breaks a claim."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.report.privacy_totals import AGREEMENT, pld_epsilon, site_totals
from simulations.report.run_files import read_run

DELTA = 1e-4


@pytest.mark.parametrize(
    ("charge", "expected"),
    [((1.0, 0.01, 1000), 1.828), ((1.0, 1.0, 10), 17.857), ((1.0, 1.0, 1000), 633.9)],
)
def test_golden_values(charge: tuple[float, float, int], expected: float) -> None:
    assert pld_epsilon((charge,), 1e-5) == pytest.approx(expected, rel=2e-4)


def test_nothing_released_costs_nothing() -> None:
    assert pld_epsilon((), DELTA) == 0


def test_mixed_charges_cost_more_than_either_and_less_than_their_sum() -> None:
    sampled, full = (1.5, 0.2, 12), (3.0, 1.0, 1)
    both = pld_epsilon((sampled, full), DELTA)
    parts = [pld_epsilon((charge,), DELTA) for charge in (sampled, full)]
    assert max(parts) < both < sum(parts)


def test_accountants_agree_and_the_recorded_total_is_not_below(
    make_run: Callable[..., Path],
) -> None:
    run = read_run(make_run())
    for site in site_totals(run.releases, DELTA):
        total = site.total
        assert abs(total.prv - total.pld) <= AGREEMENT
        assert total.rdp >= total.prv
        assert site.recorded_prv is not None
        assert site.recorded_prv == pytest.approx(total.prv)
        assert total.pld <= site.recorded_prv + AGREEMENT


def test_lines_are_ordered_and_total_over_all_rounds(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run(refusing=None))
    [site, *_] = site_totals(run.releases, DELTA)
    full, sampled, total = site.lines
    assert sampled.prv < total.prv < full.prv
    for line in site.lines:
        assert abs(line.prv - line.pld) <= AGREEMENT
    assert site.releases == 7
    one_round = pld_epsilon(((1.5, 0.2, 2),), DELTA)
    assert total.pld > 1.5 * one_round


def test_a_refused_round_is_not_charged(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run(refusing="site-0002"))
    totals = {site.site: site.total.prv for site in site_totals(run.releases, DELTA)}
    assert totals["site-0002"] < totals["site-0001"]


def test_a_release_without_noise_is_unbounded(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run(mechanism="none", event=None))
    assert all(math.isinf(site.total.prv) for site in site_totals(run.releases, DELTA))


def test_exact_lab_metrics_are_not_counted(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run())
    extra = run.releases[-1].model_copy(
        update={"kind": "metrics", "mechanism": "exact_lab_only", "event": None, "site": "lab"}
    )
    [lab] = [s for s in site_totals([*run.releases, extra], DELTA) if s.site == "lab"]
    assert lab.releases == 0
    assert lab.total.prv == 0

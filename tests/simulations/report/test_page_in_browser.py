"""The report in a real browser: sound at every width, and every plot drawn from its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulations.report import EvaluatedRow, build_report
from tests.browser import Browser
from tests.page_checks import assert_page_is_sound

pytestmark = pytest.mark.e2e

MakeRun = Callable[..., Path]
Rows = Callable[..., list[EvaluatedRow]]

PLOTS = """
return Object.fromEntries([...document.querySelectorAll("figure")].map((figure) => [
  figure.querySelector("figcaption strong").textContent,
  [...figure.querySelectorAll("svg .mark")].filter((m) => {
    const box = m.getBoundingClientRect(); return box.width > 2 && box.height > 2;
  }).length,
]))
"""
NONE = {"mode": "none", "mechanism": "none", "event": None, "epsilon_prv": None,
        "epsilon_rdp": None, "sampling": "none"}  # fmt: skip


def opened(browser: Browser, run: Path) -> dict[str, Any]:
    """Build a run's report and check its page; return `report.json`."""
    assert_page_is_sound(browser, build_report(run).as_uri())
    return dict(json.loads((run / "report.json").read_text(encoding="utf-8")))


def test_every_plot_has_a_mark_for_every_number(browser: Browser, make_run: MakeRun) -> None:
    data = opened(browser, make_run())
    drawn = browser.run(PLOTS)
    rows = data["results"]["rows"]
    series = data["utility_by_epsilon"]["series"]
    for metric in ("HR@10", "NDCG@10"):
        assert drawn.pop(f"{metric}, test") == len(rows)
        assert drawn.pop(f"Δ{metric}") == sum(len(row["comparisons"]) for row in rows) == 2
        assert drawn.pop(f"{metric} against ε") == sum(len(one["points"]) for one in series) == 3
        assert drawn.pop(f"{metric}, validation") == len(data["utility_by_round"]) == 4
    spent = data["epsilon_by_round"]["points"]
    assert drawn.pop("Total ε spent so far") == 2 * len(spent)  # the highest and the lowest site
    assert drawn.pop("Total ε by site") == len(data["sites"])
    for record in data["results"]["groups"][:3]:
        assert drawn.pop(f"NDCG@10 by {record['attribute']}") == len(record["groups"])
    assert drawn == {}


def test_a_failed_and_unprotected_run_is_sound_too(
    browser: Browser, make_run: MakeRun, make_rows: Rows
) -> None:
    run = make_run(
        {"privacy": {"insecure_seeded_noise": True}},
        rows=make_rows(0.05),
        insecure_seeded_noise=True,
    )
    opened(browser, run)
    seen = browser.run("return document.querySelector('.alerts.grave').getBoundingClientRect().top")
    assert seen < 900  # in the first screen, before anything is scrolled


@pytest.mark.parametrize("width", [390, 1440])
def test_warnings_come_before_every_figure(browser: Browser, make_run: MakeRun, width: int) -> None:
    browser.open(build_report(make_run()).as_uri())
    browser.show(width, "light")
    below, first = browser.run(
        "return [[...document.querySelectorAll('.alerts')].at(-1).getBoundingClientRect().bottom,"
        "document.querySelector('figure').getBoundingClientRect().top]"
    )
    assert below < first


def test_a_run_without_privacy_is_sound(
    browser: Browser, make_run: MakeRun, make_rows: Rows
) -> None:
    opened(browser, make_run({"privacy": {"mode": "none"}}, rows=make_rows(0.4, "none"), **NONE))


def test_a_run_that_ended_early_is_sound(browser: Browser, make_run: MakeRun) -> None:
    assert opened(browser, make_run(with_metrics=False))["results"] is None
    assert set(browser.run(PLOTS)) == {
        "HR@10, validation", "NDCG@10, validation", "Total ε spent so far", "Total ε by site"
    }  # fmt: skip

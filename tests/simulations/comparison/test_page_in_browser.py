"""The page of a comparison in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulations.comparison.comparing import compare
from simulations.comparison.entries import read_entry
from simulations.comparison.page import comparison_page
from tests.browser import Browser
from tests.page_checks import assert_page_is_sound
from tests.simulations.comparison.conftest import WriteRun

pytestmark = pytest.mark.e2e


def test_the_page_is_sound(browser: Browser, write_run: WriteRun, tmp_path: Path) -> None:
    one = read_entry("strong", [write_run(f"s{seed}", seed=seed) for seed in range(2)])
    other = read_entry("weak", [write_run(f"w{seed}", model=0.1, seed=seed) for seed in range(2)])
    found = compare([one, other], resamples=200)
    page = tmp_path / "comparison.html"
    text = comparison_page(
        "A comparison",
        "two entries",
        found.entries,
        resamples=200,
        differences=found.differences,
        warnings=["one is failed"],
    )
    page.write_text(text, encoding="utf-8")
    assert_page_is_sound(browser, page.as_uri())
    marks = browser.run("return document.querySelectorAll('svg .mark').length")
    assert marks == 2 * (2 * (1 + 1) + 1) + 2 * 2  # models, floors, a baseline; differences

"""The page's colours meet WCAG AA in light, dark and print; it fits narrow screens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import simulations.report
from simulations.report.page import page_style

STYLE = page_style()
TEXT_PAIRS = [
    ("ink", "paper"), ("ink", "raised"), ("soft", "paper"), ("soft", "raised"),
    ("alarm-ink", "alarm-paper"), ("alarm-paper", "alarm-ink"), ("alarm-ink", "paper"),
    ("good-ink", "paper"), ("note-ink", "note-paper"), ("a", "paper"), ("floor", "paper"),
]  # fmt: skip
GRAPHIC_PAIRS = [("a", "paper"), ("b", "paper"), ("soft", "paper"), ("alarm-rule", "paper"),
                 ("a", "raised"), ("alarm-rule", "alarm-paper"),
                 ("note-rule", "note-paper")]  # fmt: skip


def themes() -> list[dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of `#rrggbb`."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_formula_knows_its_ends() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_there_is_a_light_a_dark_and_a_print_theme() -> None:
    assert len(themes()) == 3
    assert len({frozenset(theme) for theme in themes()}) == 1
    assert "prefers-color-scheme: dark" in STYLE
    assert "@media print" in STYLE


@pytest.mark.parametrize("theme", range(3))
def test_contrast_is_aa(theme: int) -> None:
    colours = themes()[theme]
    for ink, paper in TEXT_PAIRS:
        assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    for mark, paper in GRAPHIC_PAIRS:
        assert contrast(colours[mark], colours[paper]) >= 3, (mark, paper)


def test_wide_tables_scroll_inside_their_own_box() -> None:
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", STYLE)
    templates = Path(simulations.report.__file__).parent / "templates"
    for template in templates.glob("*.html.j2"):
        text = template.read_text("utf-8")
        assert text.count("<table") == text.count('class="scroll"')

"""Charts: ticks, geometry inside the frame, names escaped."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.report.svg_charts import (
    LEFT,
    RIGHT,
    WIDTH,
    IntervalRow,
    Line,
    interval_chart,
    line_chart,
    nice_ticks,
)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_enclose_the_data_in_equal_steps(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 8
    slack = 1e-6 * max(span, abs(low))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack


def test_ticks_by_hand() -> None:
    assert nice_ticks(0, 8) == [0, 2, 4, 6, 8]
    assert nice_ticks(0, 0.13) == [0, 0.05, 0.1, 0.15]


def test_lines_are_drawn_inside_the_frame() -> None:
    svg = line_chart("t", "round", [Line("a", [(0, 0.0), (5, 2.0), (10, 7.3)], "a")])
    numbers = re.search(r'points="([^"]+)"', svg)
    assert numbers
    places = [tuple(map(float, pair.split(","))) for pair in numbers.group(1).split()]
    assert len(places) == 3
    assert all(0 <= x <= WIDTH and 0 <= y <= 230 for x, y in places)
    assert places[0][1] > places[1][1] > places[2][1]


@pytest.mark.parametrize("points", [[(3, 0.5)], [(1, 0.0), (2, 0.0)]])
def test_one_point_or_only_zeros_can_be_drawn(points: list[tuple[float, float]]) -> None:
    ElementTree.fromstring(line_chart("t", "round", [Line("a", points, "a")]))


def test_intervals_with_and_without_bounds_and_below_zero() -> None:
    rows = [
        IntervalRow("a <b>", 0.1, 0.05, 0.2, "0.1000"),
        IntervalRow("x" * 80, -0.1, None, None, "-0.1000", "failed"),
    ]
    root = ElementTree.fromstring(interval_chart('t "quoted"', "axis", rows))
    [circle] = root.iter("circle")
    [failed] = [path for path in root.iter("path") if path.get("class") == "mark failed"]
    left = float(failed.get("d", "").removeprefix("M").partition(",")[0])
    assert float(circle.get("cx", "")) > left >= 0
    assert len([path for path in root.iter("path") if path.get("class") == "bar a"]) == 1
    texts = [text.text or "" for text in root.iter("text")]
    assert "a <b>" in texts
    [cut] = [text for text in texts if "xx" in text]
    assert cut.endswith("…")
    assert len(cut) < 46


def test_all_means_zero_can_be_drawn() -> None:
    ElementTree.fromstring(interval_chart("t", "x", [IntervalRow("a", 0.0, 0.0, 0.0, "0")]))


def test_lines_over_a_measure_fill_the_chart_between_ticks_of_its_own() -> None:
    line = Line("way", [(0.31, 0.1), (0.36, 0.08), (0.44, 0.05)], "a")
    svg = line_chart("accuracy and distance", "distance", [line], "NDCG@10")
    assert [f">{tick}<" in svg for tick in ("0.35", "0.4")] == [True, True]
    assert f'points="{LEFT:.1f},' in svg
    assert f" {WIDTH - RIGHT:.1f}," in svg
    assert "NaN" not in line_chart("one", "x", [Line("way", [(0.5, 0.1)], "a")])

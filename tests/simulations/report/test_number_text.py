"""How numbers are printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.report.metrics_file import IntervalRecord
from simulations.report.number_text import (
    bytes_text,
    delta_text,
    epsilon_text,
    interval_text,
    metric_text,
    seconds_text,
)


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [(None, "–"), (math.inf, "∞"), (7.981, "7.99"), (7.98, "7.98"), (0.0, "0.00"), (8.0, "8.00")],
)
def test_epsilon(epsilon: float | None, text: str) -> None:
    assert epsilon_text(epsilon) == text


@given(st.floats(0, 1000))
def test_epsilon_is_never_printed_smaller_than_it_is(epsilon: float) -> None:
    assert epsilon - 1e-7 <= float(epsilon_text(epsilon)) < epsilon + 0.0101


@pytest.mark.parametrize(
    ("delta", "text"), [(1e-4, "1e-4"), (2.5e-6, "2.5e-6"), (1 / 943, "1.06e-3"), (0.5, "5e-1")]
)
def test_delta(delta: float, text: str) -> None:
    assert delta_text(delta) == text


def test_metrics_and_intervals() -> None:
    assert metric_text(0.12345) == "0.1235"
    assert metric_text(0.01, signed=True) == "+0.0100"
    assert metric_text(None) == "–"
    assert interval_text(IntervalRecord(mean=0.1, low=0.05, high=0.15)) == "[0.0500, 0.1500]"
    assert interval_text(IntervalRecord(mean=0.1, low=None, high=None)) == ""


def test_sizes_and_durations() -> None:
    assert [bytes_text(size) for size in (None, 12, 2048, 3 * 2**20, 5 * 2**30)] == [
        "unknown", "12 B", "2.0 KiB", "3.0 MiB", "5.00 GiB",
    ]  # fmt: skip
    assert [seconds_text(s) for s in (4.24, 185, 3725)] == ["4.2 s", "3 min 05 s", "1 h 02 min"]

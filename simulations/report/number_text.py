"""How numbers are printed: ε never rounded down, δ and intervals always in one form."""

from __future__ import annotations

import math

from simulations.report.metrics_file import IntervalRecord


def epsilon_text(epsilon: float | None) -> str:
    """Print ε with two decimals, rounded *up*, so that the text never promises too much."""
    if epsilon is None:
        return "–"
    if math.isinf(epsilon):
        return "∞"
    return f"{math.ceil(round(epsilon * 100, 6)) / 100:.2f}"


def delta_text(delta: float) -> str:
    """Print δ as a short power of ten, for instance `1e-4`."""
    mantissa, exponent = f"{delta:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def metric_text(value: float | None, *, signed: bool = False) -> str:
    """Print a metric or a difference of metrics with four decimals."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def percent_text(share: float) -> str:
    """Print a share as a percentage with one decimal."""
    return f"{share * 100:.1f}%"


def interval_text(interval: IntervalRecord, *, signed: bool = False) -> str:
    """Print the bounds of a 95% interval; empty where there are none."""
    if interval.low is None or interval.high is None:
        return ""
    low, high = (metric_text(bound, signed=signed) for bound in (interval.low, interval.high))
    return f"[{low}, {high}]"


def bytes_text(size: float | None) -> str:
    """Print a size in binary units."""
    if size is None:
        return "unknown"
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def seconds_text(seconds: float) -> str:
    """Print a duration as `1 h 02 min`, `3 min 05 s` or `4.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"

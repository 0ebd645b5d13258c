"""Two small charts as inline SVG: lines over rounds, and means with intervals.

The SVG carries classes, no colours: the page's style sheet sets them for light, dark and
print. Widths fit a phone at full size, so that text stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
ROW_HEIGHT = 40


@dataclass(frozen=True)
class Line:
    """A named series of (x, y); `style` is its CSS class (`a`, `b`, or `limit`)."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True)
class IntervalRow:
    """A mean with bounds (none where unknown), and how it is printed.

    `style` is the CSS class: `a` for the model, `b` for others, `failed`.
    """

    label: str
    mean: float
    low: float | None
    high: float | None
    text: str
    style: str = "a"


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return about `wanted` round numbers that enclose [low, high]."""
    span = high - low if high > low else max(abs(high), 1e-9)
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [round(number * step, 12) for number in range(first, last + 1)]


def line_chart(title: str, x_label: str, lines: Sequence[Line]) -> str:
    """Draw lines over server rounds; y starts at 0.

    Args:
        title: what a screen reader says.
        x_label: under the axis.
        lines: at least one with at least one point.

    Returns:
        An `<svg>` element.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_ticks = [t for t in nice_ticks(min(xs), max(xs)) if t == int(t)]
    y_ticks = nice_ticks(0.0, max(*ys, 1e-9))
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1)
    y_high = y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y / y_high * (HEIGHT - TOP - BOTTOM),
        )

    parts = []
    for tick in y_ticks:
        _, y = place(x_low, tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for tick in x_ticks:
        if x_low <= tick <= x_high:
            x, _ = place(tick, 0)
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" '
                f'text-anchor="middle">{tick:g}</text>'
            )
    parts.append(
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
    )
    for line in lines:
        parts += _line_marks(line, [place(x, y) for x, y in line.points])
    return _svg(title, HEIGHT, parts)


def _line_marks(line: Line, places: Sequence[tuple[float, float]]) -> list[str]:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = [f'<polyline class="line {line.style}" points="{points}"/>']
    if line.style != "limit" and len(places) <= 40:
        marks += [
            f'<circle class="dot {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places
        ]
    return marks


def interval_chart(title: str, x_label: str, rows: Sequence[IntervalRow]) -> str:
    """Draw one line per row: its name and mean above, its interval below, on one axis.

    Args:
        title: what a screen reader says.
        x_label: under the axis.
        rows: at least one.

    Returns:
        An `<svg>` element.
    """
    bounds = [value for row in rows for value in (row.mean, row.low, row.high) if value is not None]
    ticks = nice_ticks(min(0.0, *bounds), max(bounds))
    low, high = ticks[0], ticks[-1]
    height = ROW_HEIGHT * len(rows) + 44

    def across(value: float) -> float:
        return 14 + (value - low) / (high - low) * (WIDTH - 28)

    parts = []
    for tick in ticks:
        x, bottom = across(tick), height - 36
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(
        f'<text class="axis" x="{WIDTH / 2:.0f}" y="{height - 4}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    for number, row in enumerate(rows):
        parts += _interval_marks(
            row,
            16 + number * ROW_HEIGHT,
            across(row.mean),
            None if row.low is None else across(row.low),
            None if row.high is None else across(row.high),
        )
    return _svg(title, height, parts)


def _interval_marks(
    row: IntervalRow, y: float, mean: float, low: float | None, high: float | None
) -> list[str]:
    label = row.label if len(row.label) <= 46 else row.label[:45] + "…"
    end = f'x="{WIDTH - 14}" y="{y}" text-anchor="end"'
    marks = [
        f'<text class="row {row.style}" x="14" y="{y}">{escape(label)}</text>',
        f'<text class="row value" {end}>{escape(row.text)}</text>',
    ]
    if low is not None and high is not None:
        marks.append(
            f'<line class="bar {row.style}" x1="{low:.1f}" x2="{high:.1f}" '
            f'y1="{y + 12}" y2="{y + 12}"/>'
        )
    marks.append(f'<circle class="dot {row.style}" cx="{mean:.1f}" cy="{y + 12}" r="4.5"/>')
    return marks


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>\n{body}\n</svg>"
    )

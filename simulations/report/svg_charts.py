"""Two small charts as inline SVG: lines over rounds, and means with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulations.report.svg_frame import (
    WIDTH,
    fitted,
    marker,
    nice_ticks,
    spread,
    svg,
    text,
    wrapped,
)

__all__ = ["WIDTH", "IntervalRow", "Line", "interval_chart", "line_chart", "nice_ticks"]

HEIGHT = 216
LEFT, RIGHT, TOP, BOTTOM = 46, 92, 26, 42
SIDE = 12
ROW_HEIGHT = 40
LABEL_HEIGHT = 13
VALUE_WIDTH = 62
MARKED_POINTS = 40


@dataclass(frozen=True)
class Line:
    """A named series of (x, y).

    Attributes:
        name: written at the line's end.
        points: at least one; x rises.
        style: its CSS class (`a`, `b`, or `limit`).
        end: how its last value is printed beside the name.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str
    end: str = ""


@dataclass(frozen=True)
class IntervalRow:
    """A mean with bounds (none where unknown), and how it is printed.

    `style` is the CSS class and the mark's shape: see `svg_frame.marker`.
    """

    label: str
    mean: float
    low: float | None
    high: float | None
    text: str
    style: str = "a"


def line_chart(title: str, x_label: str, lines: Sequence[Line], y_label: str = "") -> str:
    """Draw lines over server rounds, or over any measure; y starts at 0.

    Args:
        title: what a screen reader says.
        x_label: under the axis.
        lines: at least one with at least one point.
        y_label: above the axis; `title` where left out.

    Returns:
        An `<svg>` element.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_ticks = nice_ticks(min(xs), max(xs))
    y_ticks = nice_ticks(0.0, max(*ys, 1e-9))
    x_low, x_high = min(xs), max(xs)
    if all(x == int(x) for x in xs):  # rounds: no half ones
        x_ticks, x_high = [t for t in x_ticks if t == int(t)], max(x_high, x_low + 1)
    elif x_high == x_low:
        x_high = x_low + max(abs(x_low), 1e-9)
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        return LEFT + across * (right - LEFT), bottom - y / y_ticks[-1] * (bottom - TOP)

    parts = [text(4, 12, fitted(y_label or title, WIDTH - 8), "axis")]
    for tick in y_ticks:
        _, y = place(x_low, tick)
        parts.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{right}"/>')
        parts.append(text(LEFT - 6, y + 4, f"{tick:g}", "tick", "end"))
    for tick in x_ticks:
        if x_low <= tick <= x_high:
            parts.append(text(place(tick, 0)[0], bottom + 16, f"{tick:g}", "tick", "middle"))
    parts.append(text((LEFT + right) / 2, HEIGHT - 6, x_label, "axis", "middle"))
    for line in lines:
        parts += _line_marks(line, [place(x, y) for x, y in line.points])
    parts += _end_labels(lines, [place(*line.points[-1]) for line in lines])
    ends = "; ".join(f"{line.name} ends at {line.end or line.points[-1][1]}" for line in lines)
    return svg(title, f"{ends}.", HEIGHT, parts)


def _line_marks(line: Line, places: Sequence[tuple[float, float]]) -> list[str]:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = []
    if len(places) > 1:
        marks.append(f'<polyline class="line {line.style}" points="{points}"/>')
    if line.style != "limit" and len(places) <= MARKED_POINTS:
        marks += [marker(line.style, x, y) for x, y in places]
    return marks


def _end_labels(lines: Sequence[Line], ends: Sequence[tuple[float, float]]) -> list[str]:
    x = WIDTH - RIGHT + 10
    texts = [
        [*wrapped(line.name, WIDTH - x, 11), *([line.end] if line.end else [])] for line in lines
    ]
    heights = [LABEL_HEIGHT * len(found) + 3.0 for found in texts]
    centres = spread([y for _, y in ends], heights, TOP - 8, HEIGHT - BOTTOM + 12)
    return [
        text(x, centre + (number - len(found) / 2) * LABEL_HEIGHT + 10, word, f"end {line.style}")
        for line, found, centre in zip(lines, texts, centres, strict=True)
        for number, word in enumerate(found)
    ]


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
    height = ROW_HEIGHT * len(rows) + 46

    def across(value: float) -> float:
        return SIDE + (value - low) / (high - low) * (WIDTH - 2 * SIDE)

    parts = []
    for tick in ticks:
        x, bottom = across(tick), height - 38
        style = "grid zero" if tick == 0 and low < 0 else "grid"
        parts.append(f'<path class="{style}" d="M{x:.1f},2V{bottom}"/>')
        anchor = "start" if tick == low else "end" if tick == high else "middle"
        edge = {"start": x - 6, "end": x + 10, "middle": x}[anchor]
        parts.append(text(edge, bottom + 15, f"{tick:g}", "tick", anchor))
    parts.append(text(WIDTH / 2, height - 5, x_label, "axis", "middle"))
    for number, row in enumerate(rows):
        places = [None if v is None else across(v) for v in (row.low, row.high)]
        parts += _interval_marks(row, 16 + number * ROW_HEIGHT, across(row.mean), *places)
    told = "; ".join(f"{row.label}: {row.text}" for row in rows)
    return svg(title, f"{told}.", height, parts)


def _interval_marks(
    row: IntervalRow, y: float, mean: float, low: float | None, high: float | None
) -> list[str]:
    room = WIDTH - 2 * SIDE - VALUE_WIDTH
    marks = [
        text(SIDE, y, fitted(row.label, room), f"row {row.style}"),
        text(WIDTH - SIDE, y, row.text, "row value", "end"),
    ]
    if low is not None and high is not None:
        marks.append(f'<path class="bar {row.style}" d="M{low:.1f},{y + 12}H{high:.1f}"/>')
    return [*marks, marker(row.style, mean, y + 12)]

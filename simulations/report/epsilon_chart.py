"""Utility against ε: a logarithmic axis with ∞ at its end, intervals, and pooled references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from simulations.report.svg_frame import WIDTH, marker, nice_ticks, spread, svg, text, wrapped

HEIGHT = 300
LEFT, RIGHT, TOP, BOTTOM = 46, 108, 26, 44
INFINITY_ROOM = 46
DODGE = 7
LABEL_HEIGHT = 13


@dataclass(frozen=True)
class EpsilonPoint:
    """Mean utility at `epsilon` (infinite without privacy), with its bounds where known."""

    epsilon: float
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class EpsilonSeries:
    """A method at one or more budgets; `style` is as in `svg_frame.marker`."""

    name: str
    points: Sequence[EpsilonPoint]
    style: str


@dataclass(frozen=True)
class Reference:
    """A method without privacy: a level across the whole chart."""

    name: str
    mean: float


class _Plane:
    """Places (ε, utility): a finite ε by its logarithm, ∞ in a place of its own at the right."""

    def __init__(self, budgets: Sequence[float], top: float) -> None:
        self.right, self.bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        self.top = top
        self.finite = sorted({e for e in budgets if math.isfinite(e)})
        self.has_infinity = any(math.isinf(e) for e in budgets)
        self.is_broken = self.has_infinity and bool(self.finite)
        self.end = self.right - (INFINITY_ROOM if self.is_broken else 0)
        logs = [math.log(e) for e in self.finite] or [0.0]
        margin = max(0.12 * (logs[-1] - logs[0]), 0.35)
        self.low, self.high = logs[0] - margin, logs[-1] + margin

    def x(self, epsilon: float) -> float:
        if math.isinf(epsilon):
            return self.right - INFINITY_ROOM / 2 if self.finite else (LEFT + self.right) / 2
        share = (math.log(epsilon) - self.low) / (self.high - self.low)
        return LEFT + share * (self.end - LEFT)

    def y(self, value: float) -> float:
        return self.bottom - value / self.top * (self.bottom - TOP)


def epsilon_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[EpsilonSeries],
    references: Sequence[Reference] = (),
) -> str:
    """Draw utility against ε; utility starts at 0.

    Args:
        title: what a screen reader says.
        x_label: under the axis.
        y_label: above the axis.
        series: at least one with at least one point.
        references: methods that no ε applies to.

    Returns:
        An `<svg>` element.
    """
    points = [point for one in series for point in one.points]
    values = [v for p in points for v in (p.mean, p.high) if v is not None]
    ticks = nice_ticks(0.0, max(*values, *(r.mean for r in references), 1e-9))
    plane = _Plane([p.epsilon for p in points], ticks[-1])
    parts = [text(4, 12, y_label, "axis"), *_axes(plane, ticks, x_label)]
    parts += [
        f'<path class="line reference" d="M{LEFT},{plane.y(r.mean):.1f}H{plane.right}"/>'
        for r in references
    ]
    shifts = [(number - (len(series) - 1) / 2) * DODGE for number in range(len(series))]
    for one, shift in zip(series, shifts, strict=True):
        parts += _series_marks(one, shift, plane)
    parts += _labels(series, shifts, references, plane)
    return svg(title, _described(series, references), HEIGHT, parts)


def _axes(plane: _Plane, ticks: Sequence[float], x_label: str) -> list[str]:
    parts = []
    for tick in ticks:
        y = plane.y(tick)
        parts.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{plane.right}"/>')
        parts.append(text(LEFT - 6, y + 4, f"{tick:g}", "tick", "end"))
    budgets = [*plane.finite, *([math.inf] if plane.has_infinity else [])]
    for epsilon in budgets:
        label = "∞" if math.isinf(epsilon) else f"{epsilon:g}"
        parts.append(text(plane.x(epsilon), plane.bottom + 16, label, "tick", "middle"))
    if plane.is_broken:
        parts.append(f'<path class="grid break" d="M{plane.end:.1f},{TOP}V{plane.bottom}"/>')
    middle = (LEFT + plane.right) / 2
    return [*parts, text(middle, HEIGHT - 6, x_label, "axis", "middle")]


def _series_marks(one: EpsilonSeries, shift: float, plane: _Plane) -> list[str]:
    parts = []
    if len(one.points) > 1:
        places = [(plane.x(p.epsilon) + shift, plane.y(p.mean)) for p in one.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="line {one.style}" points="{path}"/>')
    for point in one.points:
        x = plane.x(point.epsilon) + shift
        if point.low is not None and point.high is not None:
            low, high = plane.y(point.low), plane.y(point.high)
            parts.append(f'<path class="bar {one.style}" d="M{x:.1f},{low:.1f}V{high:.1f}"/>')
        parts.append(marker(one.style, x, plane.y(point.mean)))
    return parts


def _labels(
    series: Sequence[EpsilonSeries],
    shifts: Sequence[float],
    references: Sequence[Reference],
    plane: _Plane,
) -> list[str]:
    """Names at the right edge, each tied by a thin line to where its marks end."""
    ends = [
        (plane.x(one.points[-1].epsilon) + shift + 7, plane.y(one.points[-1].mean), one.style)
        for one, shift in zip(series, shifts, strict=True)
    ]
    ends += [(plane.right, plane.y(r.mean), "reference") for r in references]
    x = plane.right + 16
    told = [one.name for one in series] + [r.name for r in references]
    names = [wrapped(name, WIDTH - x, 11) for name in told]
    heights = [LABEL_HEIGHT * len(lines) + 3.0 for lines in names]
    centres = spread([y for _, y, _ in ends], heights, 16, plane.bottom + 16)
    parts = []
    for (from_x, from_y, style), lines, centre in zip(ends, names, centres, strict=True):
        parts.append(
            f'<path class="leader" d="M{from_x:.1f},{from_y:.1f}'
            f'L{plane.right + 2:.1f},{from_y:.1f}L{x - 3:.1f},{centre:.1f}"/>'
        )
        first = centre - len(lines) / 2 * LABEL_HEIGHT + 10
        parts += [
            text(x, first + number * LABEL_HEIGHT, line, f"end {style}")
            for number, line in enumerate(lines)
        ]
    return parts


def _described(series: Sequence[EpsilonSeries], references: Sequence[Reference]) -> str:
    told = [
        f"{one.name}: "
        + ", ".join(
            f"{p.mean:.4f} at ε {'∞' if math.isinf(p.epsilon) else f'{p.epsilon:g}'}"
            for p in one.points
        )
        for one in series
    ]
    told += [f"{r.name}, without privacy: {r.mean:.4f}" for r in references]
    return "; ".join(told) + "."

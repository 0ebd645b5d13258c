"""What all charts share: the SVG element, ticks, and text that stays inside its frame.

The SVG carries classes, no colours: the page's style sheet sets them for light, dark and
print. A chart is as wide as a phone's column, so that its text keeps its size there.
"""

from __future__ import annotations

import hashlib
import math
import textwrap
from collections.abc import Sequence
from html import escape

WIDTH = 358
TEXT_SIZE = 12
# Of the widest usual font (DejaVu Sans bold), in units of the text's size.
_CHARACTER = 0.68


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return about `wanted` round numbers that enclose [low, high]."""
    span = high - low if high > low else max(abs(high), 1e-9)
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [round(number * step, 12) for number in range(first, last + 1)]


def fitted(label: str, width: float, size: float = TEXT_SIZE) -> str:
    """Cut `label` so that it fits `width` pixels at `size` in any usual font."""
    room = max(int(width / (size * _CHARACTER)), 2)
    return label if len(label) <= room else label[: room - 1].rstrip() + "…"


def wrapped(label: str, width: float, size: float = TEXT_SIZE, lines: int = 3) -> list[str]:
    """Break `label` into at most `lines` lines that fit `width` pixels at `size`."""
    room = max(int(width / (size * _CHARACTER)), 4)
    found = textwrap.wrap(label, room, max_lines=lines, placeholder="…")
    return found or [""]


def spread(
    places: Sequence[float], heights: Sequence[float], low: float, high: float
) -> list[float]:
    """Move the centres of labels no further than needed for none to touch the next.

    Args:
        places: where each label's centre should be.
        heights: of each label.
        low: where the room for all of them begins.
        high: where it ends.

    Returns:
        The centres, in the order of `places`; in [low, high] where there is room for all.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    centres = list(places)
    edge = low
    for i in order:
        centres[i] = max(centres[i], edge + heights[i] / 2)
        edge = centres[i] + heights[i] / 2
    edge = high
    for i in reversed(order):
        centres[i] = min(centres[i], edge - heights[i] / 2)
        edge = centres[i] - heights[i] / 2
    return centres


def text(x: float, y: float, content: str, style: str, anchor: str = "start") -> str:
    """Write one line with its baseline at (x, y)."""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )


def marker(style: str, x: float, y: float) -> str:
    """Draw the mark of a value; each style has its own shape, so that colour is not needed.

    `a` (the model) is a disc, `dp` a diamond, `text` a triangle, `failed` a crossed square,
    and every other style a ring.
    """
    if style == "a":
        return f'<circle class="mark a" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    if style in _OUTLINES:
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in _OUTLINES[style])
        return f'<polygon class="mark {style}" points="{points}"/>'
    if style == "failed":
        return (
            f'<path class="mark failed" d="M{x - 4.5:.1f},{y - 4.5:.1f}h9v9h-9z'
            f'm0,0l9,9m-9,0l9,-9"/>'
        )
    return f'<circle class="mark {style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


_OUTLINES = {
    "dp": ((0, -6), (6, 0), (0, 6), (-6, 0)),
    "text": ((0, -5.5), (6, 5), (-6, 5)),
}


def svg(title: str, description: str, height: float, parts: Sequence[str]) -> str:
    """Wrap a chart's parts.

    Args:
        title: what the chart shows, for a screen reader.
        description: what can be read from it.
        height: in the units of `WIDTH`.
        parts: SVG elements.

    Returns:
        An `<svg>` element whose ids are its content's own, so that many fit one page.
    """
    body = "\n".join(parts)
    own = hashlib.sha256(f"{title}{description}{body}".encode()).hexdigest()[:10]
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="t{own} d{own}">'
        f'<title id="t{own}">{escape(title)}</title><desc id="d{own}">{escape(description)}</desc>'
        f"\n{body}\n</svg>"
    )

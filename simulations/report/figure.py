"""A figure of the page: its drawing and, from the same numbers, its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Figure:
    """A drawing with the numbers behind it.

    Attributes:
        title: what is measured, above the drawing.
        note: how to read it, beside the title.
        drawing: an `<svg>` element.
        columns: heads of the table; the first is that of the rows' names.
        rows: printed cells, the name first.
    """

    title: str
    note: str
    drawing: Markup
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

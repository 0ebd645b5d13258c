"""An item's text from its columns: ``{title}. {brand}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import NamedTuple


class Piece(NamedTuple):
    """Literal text, and the column that follows it ("": none)."""

    literal: str
    column: str


def parse_template(template: str) -> list[Piece]:
    """The pieces of a template; ``{{`` and ``}}`` stand for braces.

    Raises:
        ValueError: it is malformed, or a column has a conversion or a format.
    """
    pieces = []
    for literal, column, form, conversion in Formatter().parse(template):
        if column == "" or form or conversion:
            raise ValueError("a column stands in braces, alone: {title}")
        pieces.append(Piece(literal, column or ""))
    return pieces


def template_columns(template: str) -> list[str]:
    """The columns that a template names.

    Raises:
        ValueError: it is malformed.
    """
    return [piece.column for piece in parse_template(template) if piece.column]


def fill_template(pieces: Sequence[Piece], columns: Mapping[str, Sequence[str]]) -> list[str]:
    """One text a row, with single spaces; a missing value is an empty text.

    Args:
        pieces: of `parse_template`.
        columns: every column's texts, all of the same length.
    """
    rows = len(next(iter(columns.values()), ()))
    return [
        " ".join(
            "".join(
                piece.literal + (columns[piece.column][row] if piece.column else "")
                for piece in pieces
            ).split()
        )
        for row in range(rows)
    ]

"""Rows of a database as Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from client.source.places import refuse

_CAST = "correct it, or cast the column in a query"


def arrow_table(
    part: str, names: Sequence[str], rows: Sequence[Sequence[Any]], before: int
) -> pa.Table:
    """Rows as a table; each column of one type, or of none where all values are missing.

    Args:
        part: for messages.
        names: the columns.
        rows: tuples of values, at least one.
        before: how many rows of the source came before.

    Raises:
        DataError: a value is no text in its encoding, or of another type than those before.
    """
    columns = zip(*rows, strict=True)
    return pa.table(
        {
            name: _column(part, name, list(values), before)
            for name, values in zip(names, columns, strict=True)
        }
    )


def _column(part: str, name: str, values: list[Any], before: int) -> Any:
    kinds = {kind: None for kind in map(_kind, values) if kind is not None}
    if len(kinds) > 1:
        first = next(iter(kinds))
        row = next(i for i, value in enumerate(values) if _kind(value) not in (None, first))
        what = f"has type {_kind(values[row])} where rows before have {first}"
        refuse(part, name, before + row + 1, what, _CAST)
    kind = next(iter(kinds), None)
    if kind == "UUID":
        values = [None if value is None else str(value) for value in values]
    elif kind == "number" and not all(_is_exact(value) for value in values):
        values = [None if value is None else float(value) for value in values]
    try:
        return pa.array(values)
    except UnicodeEncodeError:
        row = next(i for i, value in enumerate(values) if _is_broken(value))
        refuse(part, name, before + row + 1, "is not text in the database's encoding", _CAST)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        what = f"holds values of type {kind} that cannot be read, at or after"
        refuse(part, name, before + 1, what, _CAST)


def _kind(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float | Decimal):
        return "number"
    if isinstance(value, datetime):
        return "time" if value.tzinfo is None else "time with zone"
    for known in (str, UUID, date, list):
        if isinstance(value, known):
            return known.__name__
    return type(value).__name__


def _is_exact(value: Any) -> bool:
    """Whether Arrow keeps it as it is, beside others of its sort."""
    return (
        value is None
        or isinstance(value, int)
        or (isinstance(value, Decimal) and value.is_finite())
    )


def _is_broken(value: Any) -> bool:
    texts = value if isinstance(value, list) else [value]
    return any(isinstance(text, str) and not _encodes(text) for text in texts)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

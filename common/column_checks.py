"""Checks of single columns: each turns an Arrow column into values that can be relied on.

Every fault is one `DataError` line: where, the column and the first row (row 1 is the first
row of data), the value, and the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import DataError

SOURCE_KEY = b"fedrec.source"
# A later second than any plausible one (year 5138); milliseconds since 1970 lie above it.
LATEST_SECOND = 100_000_000_000
SHOWN_IDS = 5


def source_of(table: pa.Table, kind: str) -> str:
    """Where a table came from, for messages: its file, or the kind of table."""
    metadata = table.schema.metadata or {}
    source = metadata.get(SOURCE_KEY)
    return source.decode() if source else f"the {kind} table"


def fault(where: str, column: str, row: int, value: object, must: str, remedy: str) -> NoReturn:
    """Raise the one-line error for the value in data row `row` (counted from 0)."""
    shown = "a missing value" if value is None else repr(value)
    raise DataError(f"{where}: `{column}` must {must}, got {shown} in row {row + 1}; {remedy}")


def check_columns(table: pa.Table, where: str, required: Sequence[str]) -> None:
    """Refuse a table without rows or without one of the `required` columns.

    Raises:
        DataError: Names every missing column and what the table has instead.
    """
    missing = [name for name in required if name not in table.column_names]
    if missing:
        raise DataError(
            f"{where}: missing column {', '.join(missing)}; it has "
            f"{', '.join(table.column_names) or 'no columns'}; rename a column or map it"
        )
    repeated = sorted({c for c in table.column_names if table.column_names.count(c) > 1})
    if repeated:
        raise DataError(f"{where}: column {repeated[0]} stands there twice; rename one of them")
    if table.num_rows == 0:
        raise DataError(f"{where}: has no rows; give a table with data")


def flat_column(table: pa.Table, column: str) -> Any:
    """The column as one `pa.Array`, with dictionaries decoded."""
    array = table.column(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return array.combine_chunks()


def first_true(mask: Any) -> int:
    """Position of the first True of a boolean Arrow array, or -1."""
    return int(pc.index(mask, True).as_py())


def read_ids(table: pa.Table, column: str, where: str) -> Any:
    """Ids as a `pa.StringArray` without blanks or missing values.

    Raises:
        DataError: The column is neither text nor whole numbers, or a row has no id.
    """
    array = flat_column(table, column)
    if not (_is_text(array.type) or pa.types.is_integer(array.type)):
        remedy = "store ids as text or whole numbers"
        raise DataError(f"{where}: `{column}` must hold ids, got type {array.type}; {remedy}")
    ids = array.cast(pa.string())
    row = first_true(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(ids), ""), True))
    if row >= 0:
        fault(where, column, row, ids[row].as_py(), "hold an id", "fill it in or remove the row")
    return ids


def read_numbers(table: pa.Table, column: str, where: str) -> npt.NDArray[np.float64]:
    """Numbers that are finite as float32, as float64[R].

    Raises:
        DataError: The column is not numeric, or a value is missing, not a number or not finite.
    """
    array = flat_column(table, column)
    if pa.types.is_null(array.type):
        fault(where, column, 0, None, "hold finite numbers", "fill in the column")
    numeric = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
    if not (numeric or pa.types.is_decimal(array.type) or _is_text(array.type)):
        remedy = "store plain numbers"
        raise DataError(f"{where}: `{column}` must be numeric, got type {array.type}; {remedy}")
    numbers = _text_to_float(array, column, where) if _is_text(array.type) else array
    values = numbers.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))  # NaN fails too
    if len(bad):
        row = int(bad[0])
        value = array[row].as_py()
        fault(where, column, row, value, "be a finite number", "correct it or remove the row")
    return np.asarray(values, dtype=np.float64)


def read_timestamps(
    table: pa.Table, column: str, where: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Unix seconds, and which of them were cut from a fraction.

    Returns:
        int64[R] non-negative seconds; bool[R], True where a fraction was cut off.

    Raises:
        DataError: A value is missing, not finite, negative, or too large for seconds.
    """
    array = flat_column(table, column)
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(array.type):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[array.type.unit]
        row = first_true(array.is_null())
        if row >= 0:
            fault(where, column, row, None, "be a time", "fill it in or remove the row")
        ticks = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
        seconds, rest = np.divmod(ticks, per_second)
        values, fractional = seconds.astype(np.float64), rest != 0
    else:
        values = read_numbers(table, column, where)
        fractional = values != np.floor(values)
    _check_range(array, values, column, where)
    return np.floor(values).astype(np.int64), fractional


def read_texts(table: pa.Table, column: str, where: str, ids: Sequence[str]) -> list[str]:
    """Texts with single spaces, one for each id; lists of words are joined.

    Raises:
        DataError: The column is not text, has no text at all, or some rows have none.
    """
    array = flat_column(table, column)
    if pa.types.is_null(array.type):
        texts = [""] * len(ids)
    elif _is_text(array.type) or (_is_list(array.type) and _is_text(array.type.value_type)):
        texts = [" ".join(_words(value)) for value in array.to_pylist()]
    else:
        remedy = "map the column that holds the items' text"
        raise DataError(f"{where}: `{column}` must be text, got type {array.type}; {remedy}")
    empty = [item_id for item_id, text in zip(ids, texts, strict=True) if not text]
    if len(empty) == len(texts):
        remedy = "the model reads items as text: map a column that holds text"
        raise DataError(
            f"{where}: `{column}` has no text in any of its {len(texts)} rows; {remedy}"
        )
    if empty:
        shown = ", ".join(empty[:SHOWN_IDS]) + (", …" if len(empty) > SHOWN_IDS else "")
        remedy = "give them a text (a title is enough) or remove them from the catalogue"
        raise DataError(f"{where}: `{column}` is empty for {len(empty)} items: {shown}; {remedy}")
    return texts


def read_labels(table: pa.Table, column: str, where: str, separator: str) -> list[tuple[str, ...]]:
    """Label tuples (such as genres) from lists, or from text split by `separator`.

    Raises:
        DataError: The column is neither text nor a list of text.
    """
    array = flat_column(table, column)
    if pa.types.is_null(array.type):
        return [()] * len(array)
    if _is_text(array.type):
        cells = [(value or "").split(separator) for value in array.to_pylist()]
    elif _is_list(array.type) and (
        _is_text(array.type.value_type) or pa.types.is_null(array.type.value_type)
    ):
        cells = [value or [] for value in array.to_pylist()]
    else:
        remedy = f"store lists of text, or text separated by {separator!r}"
        raise DataError(f"{where}: `{column}` must hold labels, got type {array.type}; {remedy}")
    stripped = ([(label or "").strip() for label in cell] for cell in cells)
    return [tuple(dict.fromkeys(label for label in cell if label)) for cell in stripped]


def _check_range(array: Any, values: npt.NDArray[np.float64], column: str, where: str) -> None:
    remedies = {
        "be non-negative unix seconds": (values < 0, "correct it or remove the row"),
        "be unix seconds": (values > LATEST_SECOND, "convert it, e.g. divide milliseconds by 1000"),
    }
    for must, (mask, remedy) in remedies.items():
        if mask.any():
            row = int(np.flatnonzero(mask)[0])
            fault(where, column, row, _shown(array[row]), must, remedy)


def _shown(scalar: Any) -> object:
    """A value for a message; a time as text, since `datetime` cannot hold every Arrow time."""
    return str(scalar) if pa.types.is_timestamp(scalar.type) else scalar.as_py()


def _text_to_float(array: Any, column: str, where: str) -> Any:
    trimmed = pc.utf8_trim_whitespace(array)
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:
        for row, scalar in enumerate(trimmed):
            try:
                scalar.cast(pa.float64())
            except pa.ArrowInvalid:
                value = array[row].as_py()
                fault(where, column, row, value, "be a number", "correct it or remove the row")
        raise


def _words(value: str | list[str | None] | None) -> list[str]:
    parts = value if isinstance(value, list) else [value]
    return [word for part in parts for word in (part or "").split()]


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))

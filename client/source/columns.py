"""Checks of single columns; as in `common.column_checks`, but a fault never shows its value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.source.places import CORRECT, FILL_IN, Batch, casts, first_bad_cast, refuse
from common.column_checks import first_true, flat_column
from common.errors import DataError


def read_ids(batch: Batch, column: str) -> Any:
    """Ids as a `pa.StringArray` without blanks or missing values.

    Raises:
        DataError: the column holds neither text nor whole numbers, or a row has no id.
    """
    array = flat_column(batch.table, column)
    if pa.types.is_decimal(array.type) and casts(array, pa.decimal128(38, 0)):
        array = array.cast(pa.decimal128(38, 0))
    whole = pa.types.is_integer(array.type) or (
        pa.types.is_decimal(array.type) and array.type.scale == 0
    )
    if not (is_text(array.type) or whole or pa.types.is_null(array.type)):
        _refuse_type(batch, column, "ids", array.type, "store or cast ids as text or whole numbers")
    ids = array.cast(pa.string())
    row = first_true(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(ids), ""), True))
    if row >= 0:
        refuse(batch.part, column, int(batch.rows[row]), "has no id", FILL_IN)
    return ids


def read_numbers(batch: Batch, column: str) -> npt.NDArray[np.float64]:
    """Numbers that are finite as float32, as float64[R].

    Raises:
        DataError: the column is not numeric, or a value is missing, no number or not finite.
    """
    array = flat_column(batch.table, column)
    kind = array.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (numeric or is_text(kind) or pa.types.is_null(kind)):
        _refuse_type(batch, column, "numbers", kind, "map a column of plain numbers")
    if is_text(kind):
        array = _trimmed(array)
        if not casts(array, pa.float64()):
            row = int(batch.rows[first_bad_cast(array, pa.float64())])
            refuse(batch.part, column, row, "holds no number", CORRECT)
    row = first_true(array.is_null())
    if row >= 0:
        refuse(batch.part, column, int(batch.rows[row]), "has no value", FILL_IN)
    values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))  # NaN fails too
    if len(bad):
        refuse(batch.part, column, int(batch.rows[bad[0]]), "is no finite number", CORRECT)
    return np.asarray(values, dtype=np.float64)


def read_words(batch: Batch, column: str) -> list[str]:
    """Any plain column as text, lists joined by a space; a missing value is an empty text.

    Raises:
        DataError: the column holds bytes or nested values.
    """
    array = flat_column(batch.table, column)
    if is_list(array.type):
        return [" ".join(str(part) for part in cell or () if part) for cell in array.to_pylist()]
    try:
        texts = array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        _refuse_type(batch, column, "text", array.type, "map a column of text")
    return [value or "" for value in texts.to_pylist()]


def read_labels(batch: Batch, column: str, separator: str) -> list[tuple[str, ...]]:
    """Distinct labels, from lists or from text split by `separator`.

    Raises:
        DataError: the column holds bytes or nested values.
    """
    array = flat_column(batch.table, column)
    if is_list(array.type):
        cells = [[str(part or "") for part in cell or ()] for cell in array.to_pylist()]
    else:
        cells = [value.split(separator) for value in read_words(batch, column)]
    stripped = ([label.strip() for label in cell] for cell in cells)
    return [tuple(dict.fromkeys(label for label in cell if label)) for cell in stripped]


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is a list of text."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list and (is_text(kind.value_type) or pa.types.is_null(kind.value_type)))


def _trimmed(array: Any) -> Any:
    """Without blanks around the values; what is then empty is missing."""
    trimmed = pc.utf8_trim_whitespace(array)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)


def _refuse_type(batch: Batch, column: str, must: str, kind: Any, remedy: str) -> None:
    raise DataError(f"{batch.part}: `{column}` must hold {must}, it has type {kind}; {remedy}")

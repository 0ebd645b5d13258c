"""Which rows of the source are kept, as its filters say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.source.columns import is_text, read_numbers
from client.source.places import Batch
from client.source.settings import Filter, Plain
from common.column_checks import flat_column
from common.errors import DataError

Mask = npt.NDArray[np.bool_]


def filtered(batch: Batch, filters: Sequence[Filter]) -> Batch:
    """The rows of `batch` for which every filter holds.

    A missing value is not equal to anything, and neither at least nor at most a number.

    Raises:
        DataError: a value that is compared with a number is none.
    """
    for each in filters:
        kept = _mask(batch, each)
        batch = batch._replace(table=batch.table.filter(pa.array(kept)), rows=batch.rows[kept])
    return batch


def _mask(batch: Batch, rule: Filter) -> Mask:
    array = flat_column(batch.table, rule.column)
    present = _present(array)
    kept = np.ones(len(array), dtype=np.bool_)
    if rule.present is not None:
        kept &= present == rule.present
    if rule.equals is not None:
        kept &= _is_one_of(batch, rule.column, array, (rule.equals,))
    if rule.not_equals is not None:
        kept &= ~_is_one_of(batch, rule.column, array, (rule.not_equals,))
    if rule.one_of is not None:
        kept &= _is_one_of(batch, rule.column, array, rule.one_of)
    if rule.at_least is not None or rule.at_most is not None:
        kept &= _within(batch, rule, kept & present)
    return kept


def _present(array: Any) -> Mask:
    present = pc.is_valid(array)
    if is_text(array.type):
        present = pc.and_(present, pc.fill_null(pc.not_equal(array, ""), False))
    return _bools(present)


def _is_one_of(batch: Batch, column: str, array: Any, values: Sequence[Plain]) -> Mask:
    """By value where the column holds numbers or truth values, else as text."""
    wanted: list[float | str | None]
    if pa.types.is_boolean(array.type) or pa.types.is_integer(array.type):
        wanted = [_as_number(value) for value in values]
        array = array.cast(pa.int64())
    elif pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        wanted = [_as_number(value) for value in values]
        array = array.cast(pa.float64())
    elif is_text(array.type) or pa.types.is_null(array.type):
        wanted = [_as_text(value) for value in values]
        array = array.cast(pa.string())
    else:
        raise DataError(
            f"{batch.part}: `{column}` has type {array.type}, which a filter cannot compare; "
            "cast it in a query, or filter another column"
        )
    known = {None: False}
    return np.array(
        [known.get(value, value in wanted) for value in array.to_pylist()], dtype=np.bool_
    )


def _within(batch: Batch, rule: Filter, rows: Mask) -> Mask:
    part = Batch(batch.part, batch.table.filter(pa.array(rows)), batch.rows[rows])
    values = read_numbers(part, rule.column)
    inside = np.ones(len(values), dtype=np.bool_)
    if rule.at_least is not None:
        inside &= values >= rule.at_least
    if rule.at_most is not None:
        inside &= values <= rule.at_most
    kept = np.zeros(len(rows), dtype=np.bool_)
    kept[rows] = inside
    return kept


def _as_number(value: Plain) -> float | int | None:
    """As the column would hold it; None, which equals nothing, where it is no number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return int(value) if isinstance(value, bool) else value


def _as_text(value: Plain) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bools(array: Any) -> Mask:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.bool_)

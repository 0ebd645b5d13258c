"""Where a fault lies: table, column and row of the source, and never a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.errors import DataError

Int64Array = npt.NDArray[np.int64]

FILL_IN = "fill it in, or leave such rows out with a filter (present = true)"
CORRECT = "correct it, or leave such rows out with a filter"


class Batch(NamedTuple):
    """Some rows of one of the source's tables.

    Attributes:
        part: section of ``source.toml``: interactions, users or items.
        table: the source's columns, by their names there.
        rows: int64[R], their numbers; the first row of data is 1.
    """

    part: str
    table: pa.Table
    rows: Int64Array


def refuse(part: str, column: str, row: int, what: str, remedy: str) -> NoReturn:
    """Raise the one line for the value in a row of the source."""
    raise DataError(f"{part}: `{column}` {what} in row {row}; {remedy}")


def first_bad(length: int, works: Callable[[int, int], bool]) -> int:
    """The first of `length` values that does not work, found by halving.

    Args:
        length: number of values; at least one of them does not work.
        works: whether all values from a start up to an end work.
    """
    low, high = 0, length
    while high - low > 1:
        middle = (low + high) // 2
        if works(low, middle):
            low = middle
        else:
            high = middle
    return low


def casts(array: Any, kind: Any) -> bool:
    """Whether every value can be cast to `kind`."""
    try:
        array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def first_bad_cast(array: Any, kind: Any) -> int:
    """The first value that cannot be cast to `kind`."""
    return first_bad(len(array), lambda start, end: casts(array.slice(start, end - start), kind))

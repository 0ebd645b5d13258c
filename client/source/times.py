"""Times of a source as unix seconds, in UTC; no value is ever shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.source.columns import is_text, read_numbers
from client.source.places import CORRECT, FILL_IN, Batch, first_bad, refuse
from common.column_checks import LATEST_SECOND, first_true, flat_column
from common.errors import DataError

_OFFSET = r"(Z|[+-]\d\d(:?\d\d)?)$"
_TIME_OFFSET = r"\d\d:\d\d.*" + _OFFSET
_NUMBER = r"^[+-]?[0-9]*[.]?[0-9]*([eE][+-]?[0-9]+)?$"
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class Clock(NamedTuple):
    """How times are read, and how late it may be.

    Attributes:
        form: auto, unix, unix_ms, iso, or a pattern of strptime.
        zone: of times that name none.
        latest: unix seconds; a later time is refused.
    """

    form: str
    zone: str
    latest: float


def read_times(batch: Batch, column: str, clock: Clock) -> npt.NDArray[np.int64]:
    """Non-negative unix seconds, int64[R]; fractions are cut off.

    Raises:
        DataError: a value is missing, no time, before 1970, or in the future.
    """
    array = flat_column(batch.table, column)
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(array.type):
        seconds = _from_timestamps(batch, column, array, clock)
    elif clock.form in ("auto", "unix", "unix_ms"):
        seconds = _from_numbers(batch, column, array, clock)
    else:
        seconds = _from_text(batch, column, array, clock)
    _check_range(batch, column, seconds, clock)
    return seconds.astype(np.int64)


def _from_timestamps(
    batch: Batch, column: str, array: Any, clock: Clock
) -> npt.NDArray[np.float64]:
    row = first_true(array.is_null())
    if row >= 0:
        refuse(batch.part, column, int(batch.rows[row]), "has no time", FILL_IN)
    if array.type.tz is None:
        array = _in_zone(array, clock.zone)
    ticks = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return np.asarray(ticks // _PER_SECOND[array.type.unit], dtype=np.float64)


def _from_numbers(batch: Batch, column: str, array: Any, clock: Clock) -> npt.NDArray[np.float64]:
    if clock.form == "auto" and is_text(array.type) and _looks_like_dates(array):
        raise DataError(
            f"{batch.part}: `{column}` holds times as text; set time_format, to iso or a pattern "
            "such as %d.%m.%Y %H:%M:%S"
        )
    numbers = read_numbers(batch, column)
    return np.floor(numbers / 1000 if clock.form == "unix_ms" else numbers)


def _looks_like_dates(array: Any) -> bool:
    """Whether no value at all is a number."""
    numbers = pc.match_substring_regex(pc.utf8_trim_whitespace(array), _NUMBER)
    return not pc.any(numbers).as_py()


def _from_text(batch: Batch, column: str, array: Any, clock: Clock) -> npt.NDArray[np.float64]:
    if not is_text(array.type):
        remedy = f"time_format = {clock.form} is for text; set it to auto, unix or unix_ms"
        raise DataError(f"{batch.part}: `{column}` has type {array.type}; {remedy}")
    texts = pc.utf8_trim_whitespace(array.cast(pa.string()))
    row = first_true(pc.fill_null(pc.equal(texts, ""), True))
    if row >= 0:
        refuse(batch.part, column, int(batch.rows[row]), "has no time", FILL_IN)
    parse = _iso if clock.form == "iso" else _pattern(clock.form)
    times = parse(texts, clock.zone)
    if times is None:
        bad = first_bad(
            len(texts), lambda start, end: parse(texts[start:end], clock.zone) is not None
        )
        what = f"is no time of time_format = {clock.form}"
        refuse(batch.part, column, int(batch.rows[bad]), what, CORRECT)
    return np.asarray(times.cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _iso(texts: Any, zone: str) -> Any:
    """ISO 8601, each with an offset or without; None where one is neither."""
    # An offset in hours alone is how PostgreSQL writes it.
    texts = pc.replace_substring_regex(texts, r"(\d\d:\d\d[\d:.]*[+-]\d\d)$", r"\1:00")
    has_offset = pc.match_substring_regex(texts, _TIME_OFFSET)
    nothing = pa.scalar(None, pa.string())
    try:
        aware = pc.if_else(has_offset, texts, nothing).cast(pa.timestamp("us", "UTC"))
        plain = pc.if_else(has_offset, nothing, texts).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None
    merged = pc.coalesce(aware, _in_zone(plain, zone).cast(pa.timestamp("us", "UTC")))
    return pc.floor_temporal(merged, unit="second").cast(pa.timestamp("s", "UTC"))


def _pattern(form: str) -> Callable[[Any, str], Any]:
    def parse(texts: Any, zone: str) -> Any:
        try:
            times = pc.strptime(texts, format=form, unit="s", error_is_null=True)
        except pa.ArrowInvalid:
            return None
        if times.null_count:
            return None
        return times if times.type.tz is not None else _in_zone(times, zone)

    return parse


def _in_zone(times: Any, zone: str) -> Any:
    """Local times: of an hour that a clock change repeats or skips, the earlier reading."""
    return pc.assume_timezone(times, zone, ambiguous="earliest", nonexistent="earliest")


def _check_range(batch: Batch, column: str, seconds: npt.NDArray[np.float64], clock: Clock) -> None:
    for mask, what, remedy in (
        (seconds < 0, "lies before 1970", CORRECT),
        (
            seconds > LATEST_SECOND,
            "is too large for unix seconds",
            "if it holds milliseconds, set time_format = unix_ms",
        ),
    ):
        if mask.any():
            refuse(batch.part, column, int(batch.rows[np.flatnonzero(mask)[0]]), what, remedy)
    late = np.flatnonzero(seconds > clock.latest)
    if len(late):
        refuse(
            batch.part,
            column,
            int(batch.rows[late[0]]),
            f"lies in the future by {_span(float(seconds[late].max()) - clock.latest)} or less "
            f"({len(late)} such rows among those read with it), the first",
            "set the clock of this machine or of the source, correct source.time_zone, or allow "
            "more with source.max_clock_skew_s",
        )


def _span(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{np.ceil(seconds / size):.0f} {name}"
    return f"{np.ceil(seconds):.0f} seconds"

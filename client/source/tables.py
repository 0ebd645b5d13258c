"""The site's own tables as a refresh writes them, and reads them for the next one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from client.source.staging import KEPT, Event

ROW_GROUP = 50_000
_EVENTS = pa.schema(
    {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "rating": pa.float32(),
        "timestamp": pa.int64(),
    }
)


class Written(NamedTuple):
    """What the written interactions are like; private.

    Attributes:
        rows: interactions.
        users: users of any.
        usable_users: users with enough interactions of items in the catalogue.
        unknown_rows: interactions of items that the catalogue does not have.
        newest: unix seconds of the latest; 0 where there is none.
    """

    rows: int = 0
    users: int = 0
    usable_users: int = 0
    unknown_rows: int = 0
    newest: int = 0


def write_events(
    path: Path, events: Iterable[Event], known: frozenset[str], min_interactions: int
) -> Written:
    """Write interactions, which come ordered by user, as Parquet.

    Args:
        path: the file.
        events: one for each user and item.
        known: the catalogue's ids.
        min_interactions: users with fewer of the catalogue's items are not usable.
    """
    tally = _Tally(known, min_interactions)
    with pq.ParquetWriter(path, _EVENTS) as writer:
        for rows in _chunks(events):
            users, items, times, ratings, _ = zip(*rows, strict=True)
            tally.add(users, items, times)
            columns = [[user.hex() for user in users], items, ratings, times]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, _EVENTS, strict=True)]
            writer.write_table(pa.table(arrays, schema=_EVENTS))
    return tally.result()


def write_users(
    path: Path, users: Iterable[tuple[bytes, list[str]]], attributes: Sequence[str]
) -> int:
    """Write users, ordered by pseudonym, as Parquet; returns how many."""
    schema = pa.schema({name: pa.string() for name in ("user_id", *attributes)})
    written = 0
    with pq.ParquetWriter(path, schema) as writer:
        for rows in _chunks(users):
            records = [[user.hex(), *values] for user, values in rows]
            arrays = [pa.array(column, pa.string()) for column in zip(*records, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))
            written += len(rows)
    return written


def kept_events(path: Path) -> Iterator[list[Event]]:
    """The interactions that an earlier refresh wrote, in batches."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROW_GROUP, use_threads=False):
            column = {name: batch.column(name).to_pylist() for name in _EVENTS.names}
            users = [bytes.fromhex(user) for user in column["user_id"]]
            rest = (column["item_id"], column["timestamp"], column["rating"], [KEPT] * len(users))
            yield list(zip(users, *rest, strict=True))


class _Tally:
    """Counts, over rows that come ordered by user."""

    def __init__(self, known: frozenset[str], min_interactions: int) -> None:
        self._known, self._least = known, min_interactions
        self._user, self._usable = b"", 0
        self._counts = Written()

    def add(self, users: Sequence[bytes], items: Sequence[str], times: Sequence[int]) -> None:
        rows, seen, usable_users, unknown, newest = self._counts
        for user, item in zip(users, items, strict=True):
            if user != self._user:
                self._user, self._usable = user, 0
                seen += 1
            if item in self._known:
                self._usable += 1
                usable_users += self._usable == self._least
            else:
                unknown += 1
        self._counts = Written(rows + len(users), seen, usable_users, unknown, max(newest, *times))

    def result(self) -> Written:
        return self._counts


def _chunks(rows: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, ROW_GROUP)):
        yield chunk

"""Checks of whole tables: interactions, items and users, with a count for all left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common.column_checks import (
    check_columns,
    flat_column,
    read_ids,
    read_labels,
    read_numbers,
    read_texts,
    read_timestamps,
    source_of,
)
from common.errors import DataError

GENRE_SEPARATOR = "|"
UNKNOWN = "unknown"


@dataclass(eq=False)
class Events:
    """Interaction columns of equal length R while they are being checked.

    `user` indexes `user_ids`, `item` the catalogue (-1: unknown). Shapes: user and item
    int64[R], rating float32[R], timestamp int64[R], fractional bool[R].
    """

    user_ids: tuple[str, ...]
    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    rating: npt.NDArray[np.float32]
    timestamp: npt.NDArray[np.int64]
    fractional: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[Any]) -> Events:
        """The given rows (indices or a mask), of the same users."""
        return Events(
            self.user_ids,
            self.user[rows],
            self.item[rows],
            self.rating[rows],
            self.timestamp[rows],
            self.fractional[rows],
        )


@dataclass(frozen=True)
class EventCounts:
    """What `checked_events` read and left out; see `CheckReport` for most fields.

    Attributes:
        most_of_a_user: The most usable interactions that any one user has.
    """

    rows_read: int
    users_read: int
    unknown_item_rows: int
    unknown_items: int
    users_of_unknown_items: int
    duplicate_rows: int
    short_users: int
    short_user_rows: int
    most_of_a_user: int


@dataclass(frozen=True)
class UserCounts:
    """What `checked_users` missed and left out; see `CheckReport` for each field."""

    users_without_attributes: int = 0
    users_without_interactions: int = 0


def natural_key(name: str) -> tuple[int, int, str, str]:
    """Sort key: whole numbers in numeric order, then all other names."""
    if name.isascii() and name.isdecimal():
        digits = name.lstrip("0")
        return (0, len(digits), digits, name)
    return (1, 0, name, name)


def checked_items(
    items: pa.Table,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Ids, texts and genres of the items, in row order.

    Raises:
        DataError: A missing column, a wrong type, a repeated id, or an item without text.
    """
    where = source_of(items, "items")
    check_columns(items, where, ["item_id", "text"])
    ids = read_ids(items, "item_id", where).to_pylist()
    _refuse_repeated(ids, where, "item_id")
    texts = read_texts(items, "text", where, ids)
    genres: list[tuple[str, ...]] = [()] * len(ids)
    if "genres" in items.column_names:
        genres = read_labels(items, "genres", where, GENRE_SEPARATOR)
    return tuple(ids), tuple(texts), tuple(genres)


def checked_events(
    table: pa.Table, item_ids: tuple[str, ...], min_interactions: int
) -> tuple[Events, EventCounts]:
    """Check the interactions and leave out, with counts, what cannot be used.

    Args:
        table: Raw interactions.
        item_ids: Ids of the catalogue, in order.
        min_interactions: Users with fewer interactions are left out.

    Returns:
        Events sorted by user, timestamp and item index, whatever the order of the rows; counts.

    Raises:
        DataError: A wrong value, no known item, or no user with enough interactions.
    """
    kept, counts = usable_events(table, item_ids, min_interactions)
    where = source_of(table, "interactions")
    if counts.unknown_item_rows == counts.rows_read:
        example = read_ids(table, "item_id", where)[0].as_py()
        raise DataError(
            f"{where}: none of its {counts.unknown_items} items is in the catalogue, e.g. "
            f"{example!r}; check that both tables use the same item ids"
        )
    if not kept.user_ids:
        raise DataError(
            f"{where}: no user has {min_interactions} usable interactions (the most is "
            f"{counts.most_of_a_user}); add data or lower data.min_interactions"
        )
    return kept, counts


def usable_events(
    table: pa.Table, item_ids: tuple[str, ...], min_interactions: int
) -> tuple[Events, EventCounts]:
    """As `checked_events` of a part of the data, in which no user may be left.

    Raises:
        DataError: A wrong value.
    """
    where = source_of(table, "interactions")
    events = _read_events(table, where, item_ids)
    known = events.take(events.item >= 0)
    unknown_items = int(pc.count_distinct(_unknown_ids(table, where, events)).as_py())
    unique = _keep_earliest(known, len(item_ids))
    per_user = np.bincount(unique.user, minlength=len(events.user_ids))
    kept = _keep_users(unique, per_user >= min_interactions)
    short = (per_user > 0) & (per_user < min_interactions)
    return kept, EventCounts(
        rows_read=table.num_rows,
        users_read=len(events.user_ids),
        unknown_item_rows=len(events.user) - len(known.user),
        unknown_items=unknown_items,
        users_of_unknown_items=int((per_user == 0).sum()),
        duplicate_rows=len(known.user) - len(unique.user),
        short_users=int(short.sum()),
        short_user_rows=int(per_user[short].sum()),
        most_of_a_user=int(per_user.max(initial=0)),
    )


def checked_users(
    users: pa.Table | None, user_ids: tuple[str, ...]
) -> tuple[dict[str, tuple[str, ...]], UserCounts]:
    """Attributes as text, aligned with `user_ids`; ``unknown`` where there is none.

    Raises:
        DataError: A missing id column, a wrong type, or a repeated user.
    """
    if users is None:
        return {}, UserCounts()
    where = source_of(users, "users")
    check_columns(users, where, ["user_id"])
    ids = read_ids(users, "user_id", where).to_pylist()
    _refuse_repeated(ids, where, "user_id")
    row_of = {user_id: row for row, user_id in enumerate(ids)}
    rows = [row_of.get(user_id) for user_id in user_ids]
    attributes = {}
    for name in users.column_names:
        if name != "user_id":
            cells = flat_column(users, name).to_pylist()
            attributes[name] = tuple(
                UNKNOWN if row is None else _attribute(cells[row]) for row in rows
            )
    found = sum(row is not None for row in rows)
    return attributes, UserCounts(len(rows) - found, len(ids) - found)


def _read_events(table: pa.Table, where: str, item_ids: tuple[str, ...]) -> Events:
    check_columns(table, where, ["user_id", "item_id", "timestamp"])
    users = read_ids(table, "user_id", where)
    items = read_ids(table, "item_id", where)
    timestamp, fractional = read_timestamps(table, "timestamp", where)
    rating = np.ones(table.num_rows, dtype=np.float32)
    if "rating" in table.column_names:
        rating = read_numbers(table, "rating", where).astype(np.float32)
    user_ids = tuple(sorted(pc.unique(users).to_pylist(), key=natural_key))
    return Events(
        user_ids, _index_in(users, user_ids), _index_in(items, item_ids), rating, timestamp,
        fractional,
    )  # fmt: skip


def _index_in(ids: Any, known: tuple[str, ...]) -> npt.NDArray[np.int64]:
    index = pc.fill_null(pc.index_in(ids, value_set=pa.array(known, pa.string())), -1)
    return np.asarray(index.to_numpy(zero_copy_only=False), dtype=np.int64)


def _unknown_ids(table: pa.Table, where: str, events: Events) -> Any:
    return read_ids(table, "item_id", where).filter(pa.array(events.item < 0))


def _keep_earliest(events: Events, items: int) -> Events:
    """Of repeated (user, item) rows keep the earliest (equal times: the lowest rating)."""
    order = np.lexsort((events.rating, events.timestamp, events.item, events.user))
    ordered = events.take(order)
    pair = ordered.user * items + ordered.item
    first = np.ones(len(pair), dtype=np.bool_)
    first[1:] = pair[1:] != pair[:-1]
    return ordered.take(first)


def _keep_users(events: Events, kept: npt.NDArray[np.bool_]) -> Events:
    """The rows of the `kept` users (bool[U]), re-indexed and in canonical order."""
    new_index = np.cumsum(kept) - 1
    rows = events.take(kept[events.user])
    rows.user = new_index[rows.user].astype(np.int64)
    rows.user_ids = tuple(name for name, keep in zip(events.user_ids, kept, strict=True) if keep)
    return rows.take(np.lexsort((rows.item, rows.timestamp, rows.user)))


def _refuse_repeated(ids: list[str], where: str, column: str) -> None:
    if len(set(ids)) == len(ids):
        return
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    row = ids.index(repeated[0], ids.index(repeated[0]) + 1)
    raise DataError(
        f"{where}: `{column}` must be unique, got {len(repeated)} repeated, the first is "
        f"{repeated[0]!r} in row {row + 1}; keep one row for each"
    )


def _attribute(value: object) -> str:
    if isinstance(value, list):
        value = " ".join(str(part) for part in value if part is not None)
    text = "" if value is None else str(value).strip()
    return text or UNKNOWN

"""Items that were shown to a user beside a click and not clicked: private, like the clicks.

A site's folder may hold them in ``shown.parquet`` (user_id, item_id, timestamp in unix
seconds). With `data.shown_negatives` they are among the negatives of the user's unit; a click
and what was shown beside it are one user's records, so they stand inside the same clipped
contribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from common.errors import DataError
from common.holdout import UserSplit
from common.interactions import Catalogue, Int64Array

COLUMNS = ("user_id", "item_id", "timestamp")


@dataclass(frozen=True, eq=False)
class ShownItems:
    """What one user was shown and did not click: int64[n] each, in the order of time.

    Attributes:
        items: Catalogue indices; repeats allowed.
        timestamps: Unix seconds of the impression.
    """

    items: Int64Array
    timestamps: Int64Array


Shown = Mapping[str, ShownItems]
"""By user id; a user who was shown nothing else is absent."""


def shown_table(shown: Shown, catalogue: Catalogue, user_ids: Sequence[str]) -> pa.Table:
    """The rows of these users, with the columns of ``shown.parquet``."""
    found = [(user, shown[user]) for user in user_ids if user in shown]
    users = [user for user, its in found for _ in its.items]
    items = [catalogue.item_ids[item] for _, its in found for item in its.items]
    times = [int(time) for _, its in found for time in its.timestamps]
    types = (pa.string(), pa.string(), pa.int64())
    arrays = [pa.array(c, t) for c, t in zip((users, items, times), types, strict=True)]
    return pa.table(dict(zip(COLUMNS, arrays, strict=True)))


def shown_items(table: pa.Table, catalogue: Catalogue, where: str) -> Shown:
    """What a table with `COLUMNS` says; items that the catalogue does not know are left out.

    Raises:
        DataError: A column is missing, has the wrong type or empty values; names `where`.
    """
    for name in COLUMNS:
        kind = table.schema.field(name).type if name in table.column_names else None
        fits = kind is not None and (
            pa.types.is_integer(kind) if name == "timestamp" else pa.types.is_string(kind)
        )
        if not fits or table[name].null_count:
            raise DataError(
                f"{where}: column {name} is missing, has empty values or is {kind}; write "
                "user_id and item_id as strings, timestamp as whole unix seconds"
            )
    place = {item: index for index, item in enumerate(catalogue.item_ids)}
    by_user: dict[str, list[tuple[int, int]]] = {}
    for user, item, time in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True):
        if item in place:
            by_user.setdefault(user, []).append((time, place[item]))
    return {user: in_order(rows) for user, rows in by_user.items()}


def trained_shown(split: UserSplit, shown: Shown) -> Int64Array:
    """Items shown beside the clicks that train, sorted and distinct: int64[s].

    An impression counts where a training click has its time and no held-out one has: from
    what stands beside a held-out click, its absence would say what was clicked. An item that
    the user clicked in the training part is none.
    """
    its = shown.get(split.user_id)
    if its is None:
        return np.zeros(0, dtype=np.int64)
    held_out = np.concatenate([split.validation.timestamps, split.test.timestamps])
    trains = np.isin(its.timestamps, split.train.timestamps) & ~np.isin(its.timestamps, held_out)
    return np.setdiff1d(its.items[trains], split.train.items).astype(np.int64)


def in_order(rows: Sequence[tuple[int, int]]) -> ShownItems:
    """Of at least one pair of time and item."""
    times, items = np.array(sorted(rows), dtype=np.int64).T
    return ShownItems(np.ascontiguousarray(items), np.ascontiguousarray(times))

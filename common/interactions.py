"""The canonical data: a public catalogue, private interactions, and what was left out.

Raw tables come from `common.table_readers` (or any other source of Arrow tables) with
these columns; everything past `build_dataset` can rely on what it has checked.

============  ==================================================================
interactions  ``user_id``, ``item_id``, ``timestamp`` (unix seconds or an Arrow
              timestamp); ``rating`` is optional and 1.0 where the column is missing
items         ``item_id``, ``text`` (a string, or a list of words); ``genres``
              (a list, or a string separated by ``|``) and ``item_vector`` (a list of
              numbers) are optional
users         ``user_id``; every other column is an attribute. The table is optional
============  ==================================================================
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.check_report import CheckReport as CheckReport
from common.column_checks import source_of
from common.interaction_checks import (
    EventCounts,
    Events,
    UserCounts,
    checked_events,
    checked_items,
    checked_users,
)
from common.item_vectors import ItemVectors, vectors_of

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Catalogue:
    """The public items; an item's index is its position here.

    Attributes:
        item_ids: V distinct ids.
        texts: V non-empty texts, what the item tower reads.
        genres: V tuples of genre names, empty where none is known.
        vectors: public vectors of the items beside their texts, where there are some.
    """

    item_ids: tuple[str, ...]
    texts: tuple[str, ...]
    genres: tuple[tuple[str, ...], ...]
    vectors: ItemVectors | None = None

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over ids and texts in order, and over the vectors where there are some.

        Equal on two sites iff indices, texts and vectors agree.
        """
        digest = hashlib.sha256()
        for item_id, text in zip(self.item_ids, self.texts, strict=True):
            digest.update(json.dumps([item_id, text], ensure_ascii=False).encode() + b"\n")
        if self.vectors is not None:
            digest.update(f"item_vectors {self.vectors.sha256}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Interactions:
    """R checked interactions, one per (user, item), sorted by user, timestamp and item.

    Attributes:
        user_ids: U distinct ids; numbers in numeric order, then names.
        user: int64[R], index into `user_ids`; every user occurs.
        item: int64[R], index into the catalogue.
        rating: float32[R], finite; 1.0 where the data has no ratings.
        timestamp: int64[R], unix seconds, non-negative.
    """

    user_ids: tuple[str, ...]
    user: Int64Array
    item: Int64Array
    rating: Float32Array
    timestamp: Int64Array

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Users:
    """Attributes of the users, aligned with `Interactions.user_ids`.

    Attributes:
        user_ids: U ids, the same as in the interactions.
        attributes: name → U values; ``unknown`` where the data has none.
    """

    user_ids: tuple[str, ...]
    attributes: dict[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A checked data set: catalogue, interactions, users, and the report on what was left out."""

    name: str
    catalogue: Catalogue
    interactions: Interactions
    users: Users
    report: CheckReport
    licence: str = ""


def build_catalogue(items: pa.Table) -> Catalogue:
    """Check the items table and make the catalogue, in the order of its rows.

    Args:
        items: Columns ``item_id``, ``text`` and optionally ``genres`` and ``item_vector``.

    Raises:
        DataError: A missing column, a wrong type, a repeated id, an item without text, or a
            wrong vector.
    """
    ids, texts, genres = checked_items(items)
    return Catalogue(ids, texts, genres, vectors_of(items, source_of(items, "items"), ids))


def build_dataset(
    name: str,
    interactions: pa.Table,
    items: pa.Table | Catalogue,
    users: pa.Table | None,
    *,
    min_interactions: int,
    licence: str = "",
) -> Dataset:
    """Check raw tables and make the canonical data set.

    Wrong values are errors. Rows that are right but unusable are left out and counted in
    the report: repeated (user, item) pairs (the earliest stays), items that the catalogue
    does not know, and then users with fewer than `min_interactions`.

    Args:
        name: Name of the data set, for reports.
        interactions: Raw interactions (see the module's docstring).
        items: Raw items, or a catalogue that was checked before.
        users: Raw user attributes, or None.
        min_interactions: Users with fewer interactions than this are left out.
        licence: Licence note that goes with the data.

    Raises:
        DataError: One line with what is wrong, where, the value and the remedy.
    """
    catalogue = items if isinstance(items, Catalogue) else build_catalogue(items)
    events, counts = checked_events(interactions, catalogue.item_ids, min_interactions)
    attributes, user_counts = checked_users(users, events.user_ids)
    return Dataset(
        name=name,
        catalogue=catalogue,
        interactions=Interactions(
            events.user_ids, events.user, events.item, events.rating, events.timestamp
        ),
        users=Users(events.user_ids, attributes),
        report=_report(catalogue, events, counts, user_counts, min_interactions),
        licence=licence,
    )


def _report(
    catalogue: Catalogue,
    events: Events,
    counts: EventCounts,
    user_counts: UserCounts,
    min_interactions: int,
) -> CheckReport:
    return CheckReport(
        rows_read=counts.rows_read,
        rows_kept=len(events.user),
        users_read=counts.users_read,
        users_kept=len(events.user_ids),
        items=len(catalogue),
        items_without_interactions=len(catalogue) - len(np.unique(events.item)),
        unknown_item_rows=counts.unknown_item_rows,
        unknown_items=counts.unknown_items,
        users_of_unknown_items=counts.users_of_unknown_items,
        duplicate_rows=counts.duplicate_rows,
        min_interactions=min_interactions,
        short_users=counts.short_users,
        short_user_rows=counts.short_user_rows,
        fractional_timestamps=int(events.fractional.sum()),
        users_without_attributes=user_counts.users_without_attributes,
        users_without_interactions=user_counts.users_without_interactions,
    )

"""From the source's rows to the site's: pseudonyms for ids, unix seconds for times."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from client.source.columns import read_ids, read_numbers, read_words
from client.source.places import Batch
from client.source.pseudonyms import Pseudonyms
from client.source.settings import InteractionsTable, UsersTable
from client.source.staging import Event
from client.source.times import Clock, read_times


def events_of(
    batch: Batch, place: InteractionsTable, clock: Clock, pseudonyms: Pseudonyms
) -> Iterator[Event]:
    """The interactions of a batch, for the staging area.

    Raises:
        DataError: a value is missing or wrong; nothing of the batch was handed over.
    """
    users = pseudonyms.digests(read_ids(batch, place.user_id))
    items = read_ids(batch, place.item_id).to_pylist()
    times = read_times(batch, place.timestamp, clock).tolist()
    ratings = [1.0] * len(items)
    if place.rating:
        ratings = read_numbers(batch, place.rating).astype(np.float32).astype(float).tolist()
    return zip(users, items, times, ratings, batch.rows.tolist(), strict=True)


def users_of(
    batch: Batch, place: UsersTable, pseudonyms: Pseudonyms
) -> Iterator[tuple[bytes, int, tuple[str, ...]]]:
    """The users of a batch, for the staging area.

    Raises:
        DataError: a value is missing or wrong.
    """
    users = pseudonyms.digests(read_ids(batch, place.user_id))
    columns = [read_words(batch, column) for column in place.attributes.values()]
    return zip(users, batch.rows.tolist(), zip(*columns, strict=True), strict=True)

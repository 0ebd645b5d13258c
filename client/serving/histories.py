"""Who has had what: the site's interactions, and what users took since they were read."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.site_data import SiteData
from client.site_ledger import KEYS_FOLDER
from client.source.pseudonyms import Pseudonyms, load_pseudonyms
from common.config import RunConfig
from common.holdout import Stage, chronological, history_of
from common.interaction_checks import UNKNOWN
from common.interactions import Int64Array
from common.requests import Requests


@dataclass(frozen=True, eq=False)
class Asker:
    """Who asks, as the score sees them.

    Attributes:
        history: int64 ``[n]``, places of items, oldest first, without repeats.
        last: unix seconds of the last of them; None: not known.
        attributes: by name.
    """

    history: Int64Array
    last: int | None
    attributes: Mapping[str, str]

    def at(self, moment: int) -> Requests:
        """The request that this asker makes at `moment`, in unix seconds."""
        last = moment if self.last is None else self.last
        return Requests(
            [self.history], np.array([moment]), np.array([last]), [dict(self.attributes)]
        )

    def leaving_out(self, places: Int64Array, moment: int) -> Requests:
        """One request for each place p of the history: this asker had they never had item p."""
        (last,) = self.at(moment).previous
        count = len(places)
        return Requests(
            [np.delete(self.history, place) for place in places],
            np.full(count, moment),
            np.full(count, last),
            [dict(self.attributes)] * count,
        )


@dataclass(frozen=True, eq=False)
class Histories:
    """The histories in a site's tables, by the user's id there.

    Attributes:
        items: int64 ``[R]``, a user's side by side, oldest first.
        times: int64 ``[R]``, unix seconds.
        starts: int64 ``[U]``.
        ends: int64 ``[U]``.
        users: row of each user.
        attributes: name → U values.
    """

    items: Int64Array
    times: Int64Array
    starts: Int64Array
    ends: Int64Array
    users: Mapping[str, int]
    attributes: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, data: SiteData, config: RunConfig, as_of: Stage | None) -> Histories:
        """The site's histories, ordered as the run's evaluation orders them.

        Args:
            data: the site's.
            config: of the run, whose seed orders interactions with equal timestamps.
            as_of: only what the run's evaluation knew before the targets of this stage.
        """
        events = data.interactions
        order = chronological(events, data.catalogue, config.data.seed)
        ends = np.cumsum(np.bincount(events.user, minlength=len(events.user_ids)))
        starts = np.concatenate([[0], ends[:-1]])
        if as_of is not None:
            splits = data.splits(config.data.split, config.data.seed, config.data.cut)
            ends = starts + np.array([len(history_of(split, as_of)) for split in splits])
        return cls(
            events.item[order],
            events.timestamp[order],
            starts.astype(np.int64),
            ends.astype(np.int64),
            {user: row for row, user in enumerate(events.user_ids)},
            data.users.attributes,
        )

    def asker(self, user: str) -> Asker | None:
        """A user of the tables, or None."""
        row = self.users.get(user)
        if row is None:
            return None
        known = slice(int(self.starts[row]), int(self.ends[row]))
        times = self.times[known]
        return Asker(
            self.items[known],
            int(times[-1]) if len(times) else None,
            {name: values[row] for name, values in self.attributes.items()},
        )

    def stranger(self, history: Int64Array, attributes: Mapping[str, str]) -> Asker:
        """Somebody whom the tables do not know; attributes that are not given are unknown."""
        unknown = dict.fromkeys(self.attributes, UNKNOWN)
        return Asker(history, None, unknown | dict(attributes))


class Taken:
    """What users took while the service ran, in the order it came; it outlives every swap."""

    def __init__(self) -> None:
        """Begins with nobody."""
        self._lock = threading.Lock()
        self._by_user: dict[str, tuple[tuple[str, int], ...]] = {}

    def add(self, user: str, item_id: str, at: int) -> None:
        """A user took an item at `at`, in unix seconds."""
        with self._lock:
            before = self._by_user.get(user, ())
            self._by_user[user] = tuple(sorted((*before, (item_id, at)), key=lambda each: each[1]))

    def of(self, user: str) -> tuple[tuple[str, int], ...]:
        """Item ids and times, oldest first."""
        return self._by_user.get(user, ())


def extended(asker: Asker, taken: tuple[tuple[str, int], ...], places: Mapping[str, int]) -> Asker:
    """An asker with what was taken since at the end of the history; known items stay in place."""
    if not taken:
        return asker
    had = {int(place) for place in asker.history}
    fresh: dict[int, int] = {}
    for item_id, at in taken:
        place = places.get(item_id)  # None: no longer offered
        if place is not None and place not in had:
            fresh.setdefault(place, at)
    if not fresh:
        return asker
    history = np.concatenate([asker.history, np.array(list(fresh), dtype=np.int64)])
    last = max([*fresh.values(), *([] if asker.last is None else [asker.last])])
    return Asker(history, last, asker.attributes)


def pseudonyms_of(folder: Path, data: SiteData) -> Pseudonyms | None:
    """What turns a user's own id into the tables' one; None where they have the ids themselves.

    Raises:
        LedgerError: the site's pseudonym key is missing or damaged.
    """
    if data.population is None:
        return None
    return load_pseudonyms(folder / KEYS_FOLDER, begin=False)

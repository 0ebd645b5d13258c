"""What a policy that explores has shown, and with which chances: what learning needs.

A database of the site's own beside the feedback; nothing of it leaves the site. It keeps the
newest lists up to a bound. A crash of the process loses none; a power cut may lose the last
ones, from which then nothing is learned.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from client.serving.exploration import Pool
from common.errors import RunFolderError

CHOICES_FILE = "choices.sqlite"
KEPT_LISTS = 50_000
_BETWEEN_CUTS = 200  # lists over the bound before the oldest go

_TABLE = """
CREATE TABLE IF NOT EXISTS lists (
    recommendation_id TEXT PRIMARY KEY, user TEXT NOT NULL, at INTEGER NOT NULL,
    policy TEXT NOT NULL, before INTEGER NOT NULL, places TEXT NOT NULL,
    means BLOB NOT NULL, spreads BLOB NOT NULL
) STRICT
"""


class Place(NamedTuple):
    """One place of a list.

    Attributes:
        item_id: that went there.
        row: of the pool.
        rate: its take rate then.
        propensity: chance of this place to go to it.
        inclusion: its chance to stand anywhere in the list.
    """

    item_id: str
    row: int
    rate: float
    propensity: float
    inclusion: float


class Choice(NamedTuple):
    """One list.

    Attributes:
        recommendation_id: names it in feedback.
        user: as the site's tables have the id; empty for a visitor.
        at: unix seconds.
        policy: which one chose.
        before: lists that were shown before.
        places: best first.
        pool: what they were chosen from.
    """

    recommendation_id: str
    user: str
    at: int
    policy: str
    before: int
    places: list[Place]
    pool: Pool


class ChoiceLog:
    """Append-only up to its bound; thread-safe, one process writes it."""

    def __init__(self, folder: Path, kept: int = KEPT_LISTS, *, read_only: bool = False) -> None:
        """Opens the database in `folder`, or makes it there, for this user's eyes alone.

        Raises:
            RunFolderError: it cannot be opened, or is not there to be read.
        """
        self._path, self._kept, self._lock = folder / CHOICES_FILE, kept, threading.Lock()
        with self._errors():
            if read_only:
                where = f"{self._path.resolve().as_uri()}?mode=ro"
                self._connection = sqlite3.connect(where, uri=True, check_same_thread=False)
                self._shown = self._newest()
                return
            self._path.touch(mode=0o600)
            self._connection = sqlite3.connect(self._path, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_TABLE)
            self._shown = self._newest()

    @property
    def shown(self) -> int:
        """Lists that were ever logged, those that made way among them."""
        return self._shown

    def append(self, choice: Choice) -> None:
        """Keeps a list.

        Raises:
            RunFolderError: the disk refuses.
        """
        means, spreads = (np.asarray(part, dtype="<f4").tobytes() for part in choice.pool)
        places = json.dumps(choice.places, ensure_ascii=False)
        row = (*choice[:5], places, means, spreads)
        with self._lock, self._errors(), self._connection:
            self._connection.execute("INSERT INTO lists VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._shown += 1
            if self._shown % _BETWEEN_CUTS == 0:
                newest = self._newest()
                self._connection.execute(
                    "DELETE FROM lists WHERE rowid <= ?", (newest - self._kept,)
                )

    def choices(self) -> tuple[list[Choice], int]:
        """All lists that are kept, oldest first, and how many rows were damaged and left out."""
        with self._lock, self._errors():
            rows = self._connection.execute("SELECT * FROM lists ORDER BY rowid").fetchall()
        found = [_choice(row) for row in rows]
        whole = [choice for choice in found if choice is not None]
        return whole, len(found) - len(whole)

    def close(self) -> None:
        """Nothing is kept afterwards."""
        with self._lock:
            self._connection.close()

    def _newest(self) -> int:
        (newest,) = self._connection.execute("SELECT coalesce(max(rowid), 0) FROM lists").fetchone()
        return int(newest)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise RunFolderError(
                f"cannot use {self._path}: {error}; serve with a policy that explores first, check "
                "the disk, or remove the file"
            ) from error


def _choice(row: tuple[Any, ...]) -> Choice | None:
    """A row as a list; None where something in it is not as it was written."""
    name, user, at, policy, before, places, means, spreads = row
    try:
        pool = Pool(
            np.frombuffer(means, dtype="<f4").astype(np.float64),
            np.frombuffer(spreads, dtype="<f4").astype(np.float64),
        )
        found = [Place(*place) for place in json.loads(places)]
        is_whole = (
            len(pool.mean) == len(pool.spread)
            and bool(np.isfinite(pool.mean).all() and (pool.spread >= 0).all())
            and all(_is_whole(place, len(pool.mean)) for place in found)
        )
    except (TypeError, ValueError):
        return None
    return Choice(name, user, at, policy, before, found, pool) if found and is_whole else None


def _is_whole(place: Place, size: int) -> bool:
    numbers = (place.rate, place.propensity, place.inclusion)
    return (
        isinstance(place.item_id, str)
        and isinstance(place.row, int)
        and 0 <= place.row < size
        and all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
        and 0 < place.propensity <= 1
        and 0 < place.inclusion <= 1
        and 0 <= place.rate <= 1
    )

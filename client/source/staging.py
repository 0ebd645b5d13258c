"""Interactions and users, sorted and merged on disk: memory does not grow with the data.

A scratch SQLite database in the folder that is being made; it holds pseudonyms alone, and is
gone when the folder becomes the site's. SQLite sorts within its cache and spills to the disk.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.atomic_files import DISK_ERRORS, os_error_line
from common.errors import DataError, RunFolderError

SCRATCH_FILE = "scratch.sqlite"
CACHE_KIB = 16_384
FETCHED = 20_000
KEPT = 0
"""The row number of what an earlier refresh had read."""

_SCHEMA = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;
CREATE TABLE interactions (
    user BLOB NOT NULL, item TEXT NOT NULL, timestamp INTEGER NOT NULL, rating REAL NOT NULL,
    row INTEGER NOT NULL);
CREATE TABLE users (user BLOB NOT NULL, row INTEGER NOT NULL, attributes TEXT NOT NULL);
"""

Event = tuple[bytes, str, int, float, int]
"""Pseudonym, item, unix seconds, rating, row of the source."""


class Staging:
    """What was read, in any order; comes out sorted, and without repeats."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Uses the empty scratch database behind `connection`."""
        self._connection = connection
        self.repeats = 0

    def add_events(self, events: Iterable[Event]) -> None:
        """Take interactions, with ratings that are float32 numbers."""
        self._connection.executemany("INSERT INTO interactions VALUES (?, ?, ?, ?, ?)", events)

    def add_users(self, users: Iterable[tuple[bytes, int, Sequence[str]]]) -> None:
        """Take users: pseudonym, row of the source, attributes."""
        rows = ((user, row, json.dumps(attributes)) for user, row, attributes in users)
        self._connection.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)

    def events(self, *, refuse_repeats: bool) -> Iterator[Event]:
        """One interaction for each user and item: the earliest; ordered by user and item.

        Args:
            refuse_repeats: whether two rows of the source for one user and item are a fault.

        Raises:
            DataError: there are such rows, and they are a fault.
        """
        query = "SELECT * FROM interactions ORDER BY user, item, timestamp, rating, row"
        last: Event | None = None
        for event in self._rows(query):
            if last is None or event[:2] != last[:2]:
                yield event
                last = event
            elif KEPT not in (event[4], last[4]):
                self.repeats += 1
                if refuse_repeats:
                    first, second = sorted((event[4], last[4]))
                    raise DataError(
                        f"interactions: row {second} repeats row {first} (same user and item); "
                        "remove one, or set duplicates = earliest"
                    )

    def users(self) -> Iterator[tuple[bytes, list[str]]]:
        """Every user with attributes, ordered by pseudonym.

        Raises:
            DataError: a user has two rows.
        """
        last, last_row = b"", 0
        for user, row, attributes in self._rows("SELECT * FROM users ORDER BY user, row"):
            if user == last:
                raise DataError(
                    f"users: row {row} repeats the user of row {last_row}; keep one row for each"
                )
            last, last_row = user, row
            yield user, json.loads(attributes)

    def _rows(self, query: str) -> Iterator[Any]:
        cursor = self._connection.execute(query)
        while rows := cursor.fetchmany(FETCHED):
            yield from rows


@contextmanager
def open_staging(folder: Path) -> Iterator[Staging]:
    """An empty staging area in `folder`; its files are gone afterwards.

    Raises:
        RunFolderError: the disk is full, or refuses otherwise.
    """
    path = folder / SCRATCH_FILE
    with _temporary_files_in(folder), scratch_faults():
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.executescript(f"{_SCHEMA}PRAGMA cache_size = -{CACHE_KIB};")
            connection.execute("BEGIN")
            yield Staging(connection)
        finally:
            connection.close()
            path.unlink(missing_ok=True)


@contextmanager
def scratch_faults() -> Iterator[None]:
    """Turn what SQLite or the disk says of the scratch files into one line without a path.

    Raises:
        RunFolderError: something could not be written.
    """
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise RunFolderError(
            f"cannot sort the data on the site's disk ({name}); free some space there and run again"
        ) from None
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        plain = OSError(error.errno, error.strerror)
        raise RunFolderError(os_error_line("cannot write the site's tables", plain)) from None


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """SQLite spills its sorting here, beside the data, and not into a shared place."""
    before = os.environ.get("SQLITE_TMPDIR")
    os.environ["SQLITE_TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SQLITE_TMPDIR"]
        else:
            os.environ["SQLITE_TMPDIR"] = before

"""What users did, in a database of the site's own; it is on the disk before it is answered.

It stays at the site and costs no ε. Training reads the site's source, not this; whoever wants
it in the next run puts it there.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from common.errors import RequestFault, RunFolderError

SERVING_FOLDER = "serving"
"""Of a site's folder: all that the recommendation service may write."""
FEEDBACK_FILE = "feedback.sqlite"
Kind = Literal["taken", "dismissed"]

_TABLE = """
CREATE TABLE IF NOT EXISTS feedback (
    request_id TEXT PRIMARY KEY, user TEXT NOT NULL, item_id TEXT NOT NULL, kind TEXT NOT NULL,
    at INTEGER NOT NULL, recommendation_id TEXT NOT NULL
) STRICT
"""


class Event(NamedTuple):
    """One thing that a user did.

    Attributes:
        request_id: the client's; the same one is recorded once.
        user: as the site's tables have the id.
        item_id: of an offered item.
        kind: what it was.
        at: unix seconds.
        recommendation_id: of the list that led to it, or empty.
    """

    request_id: str
    user: str
    item_id: str
    kind: Kind
    at: int
    recommendation_id: str


class FeedbackStore:
    """An append-only table; one process writes it (`client.serving.server` holds a lock)."""

    def __init__(self, folder: Path) -> None:
        """Opens the database in `folder`, or makes it there, for this user's eyes alone.

        Raises:
            RunFolderError: it cannot be opened.
        """
        self._path = folder / FEEDBACK_FILE
        self._lock = threading.Lock()
        with self._errors():
            self._path.touch(mode=0o600)
            self._connection = sqlite3.connect(self._path, check_same_thread=False)
            # Every commit waits for the disk: an answer outlives a power cut.
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute(_TABLE)

    def record(self, event: Event) -> bool:
        """Keeps an event; returns False where it was kept before.

        Raises:
            RequestFault: another event has this request id.
            RunFolderError: the disk refuses; nothing was recorded.
        """
        with self._lock, self._errors(), self._connection:
            known = self._connection.execute(
                "SELECT * FROM feedback WHERE request_id = ?", (event.request_id,)
            ).fetchone()
            if known is None:
                self._connection.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?)", event)
                return True
        same = Event(*known)._replace(at=event.at)  # a retry may be stamped anew
        if same != event:
            raise RequestFault(
                "conflict",
                f"request id {event.request_id!r} was used for other feedback; choose a new one",
            )
        return False

    def events(self, skip: int = 0) -> Iterator[Event]:
        """All of them but the first `skip`, in the order they came."""
        with self._lock, self._errors():
            rows = self._connection.execute(
                "SELECT * FROM feedback ORDER BY rowid LIMIT -1 OFFSET ?", (skip,)
            ).fetchall()
        return (Event(*row) for row in rows)

    def count(self) -> int:
        """How many there are."""
        with self._lock, self._errors():
            return int(self._connection.execute("SELECT COUNT(*) FROM feedback").fetchone()[0])

    def close(self) -> None:
        """Nothing is recorded afterwards."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise RunFolderError(
                f"cannot use {self._path}: {error}; check the disk, or restore the file"
            ) from error

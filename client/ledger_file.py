"""The SQLite file under a site's ledger: schema, durability, and what damage looks like."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from client.durability import Durability
from common.errors import LedgerError

SCHEMA_VERSION = 2
_APPLICATION_ID = 0x66726C31  # "frl1": tells a ledger from any other SQLite file

_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    """CREATE TABLE site (
        schema_version INTEGER NOT NULL, unit TEXT NOT NULL, dataset_fingerprint TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE releases (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        run TEXT NOT NULL, server_round INTEGER NOT NULL, kind TEXT NOT NULL,
        event_json TEXT, delta REAL,
        payload BLOB NOT NULL, payload_sha256 TEXT NOT NULL,
        record_json TEXT NOT NULL, created_at TEXT NOT NULL,
        UNIQUE (run, server_round, kind)
    ) STRICT""",
    # Whose ledger it is, and every signed checkpoint; `entry` is the one that it was made for
    # (0: none), `leaf` its leaf hash.
    """CREATE TABLE identity (
        site TEXT NOT NULL, ledger_id TEXT NOT NULL, public_key TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE checkpoints (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        entry INTEGER NOT NULL, tree_size INTEGER NOT NULL, leaf TEXT NOT NULL,
        checkpoint_json TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX checkpoints_by_entry ON checkpoints (entry)",
    "CREATE INDEX checkpoints_by_size ON checkpoints (tree_size)",
    *(
        f"CREATE TRIGGER {table}_no_{change} BEFORE {change} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for table in ("site", "releases", "identity", "checkpoints")
        for change in ("update", "delete")
    ),
    # INSERT OR REPLACE deletes without asking the triggers above.
    """CREATE TRIGGER releases_no_replace BEFORE INSERT ON releases
        WHEN EXISTS (
            SELECT 1 FROM releases WHERE seq = NEW.seq OR (
                run = NEW.run AND server_round = NEW.server_round AND kind = NEW.kind
            )
        )
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    """CREATE TRIGGER site_is_one BEFORE INSERT ON site WHEN EXISTS (SELECT 1 FROM site)
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
)


class LedgerOwner(NamedTuple):
    """What a ledger is bound to for its life."""

    unit: str
    dataset_fingerprint: str
    site: str
    ledger_id: str
    public_key: str


class LedgerFile:
    """The file of one site's ledger, opened anew for every operation.

    A few operations in a row share one connection inside `held`.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_s: float = 10.0,
        durability: Durability = Durability.MACHINE,
    ) -> None:
        """Names the file; `begin` makes it, `check` reads it."""
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._durability = durability
        self._holder: tuple[int, int] | None = None
        self._kept: sqlite3.Connection | None = None

    def begin(self, owner: LedgerOwner, first: Callable[[sqlite3.Connection], None]) -> None:
        """Make the file where there is none, with what `first` writes; all or nothing.

        Raises:
            LedgerError: another program's file, locked, or not writable.
        """
        with self.connection() as connection:
            with transaction(connection):
                if _is_empty(connection):
                    for statement in _SCHEMA:
                        connection.execute(statement)
                    unit, fingerprint, *identity = owner
                    site = (SCHEMA_VERSION, unit, fingerprint)
                    connection.execute("INSERT INTO site VALUES (?, ?, ?)", site)
                    connection.execute("INSERT INTO identity VALUES (?, ?, ?)", identity)
                    first(connection)
                self._refuse_foreign(connection)
            self._write_ahead(connection)

    def exists(self) -> bool:
        """Whether there is a ledger; an empty file, of a begin that was cut short, is none.

        Raises:
            LedgerError: another program's file, or its folder is missing.
        """
        if not self.path.parent.is_dir():
            raise LedgerError(
                f"ledger {self.path}: there is no such folder; check that its folder exists"
            )
        if not self.path.exists():
            return False
        with self.connection() as connection:
            if _is_empty(connection):
                return False
            self._refuse_foreign(connection)
            return True

    def check(self, connection: sqlite3.Connection) -> LedgerOwner:
        """Whom a whole ledger file belongs to.

        Raises:
            LedgerError: missing, damaged, another program's, or of another version.
        """
        self._refuse_foreign(connection)
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise LedgerError(f"ledger {self.path} is damaged ({damage}); restore it from a backup")
        site = connection.execute("SELECT * FROM site").fetchone()
        if site is None:
            raise LedgerError(f"ledger {self.path} names no site; restore it from a backup")
        if site["schema_version"] != SCHEMA_VERSION:
            raise LedgerError(
                f"ledger {self.path} has schema_version {site['schema_version']}, this fedrec "
                f"reads {SCHEMA_VERSION}; use the fedrec that wrote it, or a newer one"
            )
        identity = connection.execute("SELECT * FROM identity").fetchone()
        if identity is None:
            raise LedgerError(f"ledger {self.path} names no identity; restore it from a backup")
        return LedgerOwner(site["unit"], site["dataset_fingerprint"], *identity)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one operation; SQLite's errors become one clear line.

        Raises:
            LedgerError: whatever SQLite could not do, with the remedy.
        """
        try:
            if self._holder == _here():
                if self._kept is None:
                    self._kept = self._connect()
                yield self._kept
                return
            with closing(self._connect()) as connection:
                yield connection
        except sqlite3.Error as error:
            raise LedgerError(f"ledger {self.path}: {error}; {_remedy(error)}") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """The operations of this thread inside share one connection, opened by the first.

        Hold it for a few operations in a row and never while something is computed: a
        thousand sites would hold a thousand files open.
        """
        if self._holder is not None:  # held further out, or by another thread
            yield
            return
        self._holder = _here()
        try:
            yield
        finally:
            kept, self._kept, self._holder = self._kept, None, None
            if kept is not None:
                kept.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute(f"PRAGMA synchronous = {self._durability.synchronous}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _refuse_foreign(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        if found != _APPLICATION_ID:
            raise LedgerError(f"{self.path} is not a fedrec ledger; give the ledger's own path")

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Turn on the write-ahead log, which stays on; SQLite itself does not wait here."""
        deadline = time.monotonic() + self._busy_timeout_s
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All statements or none, with the write lock held from the start."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _here() -> tuple[int, int]:
    """This process and thread; a forked child must open its own connection."""
    return os.getpid(), threading.get_ident()


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return int(tables) == 0


def _remedy(error: sqlite3.Error) -> str:
    match getattr(error, "sqlite_errorname", ""):
        case "SQLITE_BUSY" | "SQLITE_LOCKED":
            return "another process holds it; end that process or try again"
        case "SQLITE_FULL" | "SQLITE_IOERR_WRITE":
            return "nothing was charged; free disk space and try again"
        case "SQLITE_CORRUPT" | "SQLITE_NOTADB":
            return "the file is damaged or no ledger; restore it from a backup"
        case "SQLITE_CANTOPEN" | "SQLITE_READONLY":
            return "check that its folder exists and may be written"
        case _:
            return "nothing was charged; check the file and its disk"

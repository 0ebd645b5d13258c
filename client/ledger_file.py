"""The SQLite file under a site's ledger: schema, durability, and what damage looks like."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import LedgerError

SCHEMA_VERSION = 1
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
    *(
        f"CREATE TRIGGER {table}_no_{change} BEFORE {change} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for table in ("site", "releases")
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


class LedgerFile:
    """The file of one site's ledger, opened anew for every operation."""

    def __init__(
        self, path: Path, *, unit: str, dataset_fingerprint: str, busy_timeout_s: float
    ) -> None:
        """Check the file, or begin it where there is none.

        Raises:
            LedgerError: damaged, locked, not writable, or another unit's or data set's.
        """
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        site = (SCHEMA_VERSION, unit, dataset_fingerprint)
        with self.connection() as connection:
            with transaction(connection):
                if _is_empty(connection):
                    for statement in _SCHEMA:
                        connection.execute(statement)
                    connection.execute("INSERT INTO site VALUES (?, ?, ?)", site)
                self._refuse_foreign(connection)
            self._write_ahead(connection)
            self._check_whole(connection)
            self._check_site(connection, site)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one operation; SQLite's errors become one clear line.

        Raises:
            LedgerError: whatever SQLite could not do, with the remedy.
        """
        try:
            connection = sqlite3.connect(
                self.path, timeout=self._busy_timeout_s, isolation_level=None
            )
            try:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise LedgerError(f"ledger {self.path}: {error}; {_remedy(error)}") from error

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

    def _check_whole(self, connection: sqlite3.Connection) -> None:
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        count, last = connection.execute(
            "SELECT count(*), coalesce(max(seq), 0) FROM releases"
        ).fetchone()
        if damage != "ok" or count != last:
            raise LedgerError(
                f"ledger {self.path} is damaged ({damage}; {count} releases, the last has "
                f"number {last}); restore the file from a backup"
            )

    def _check_site(self, connection: sqlite3.Connection, asked: tuple[int, str, str]) -> None:
        row = connection.execute("SELECT * FROM site").fetchone()
        if row is None:
            raise LedgerError(f"ledger {self.path} names no site; restore it from a backup")
        if row["schema_version"] != SCHEMA_VERSION:
            raise LedgerError(
                f"ledger {self.path} has schema_version {row['schema_version']}, this fedrec "
                f"reads {SCHEMA_VERSION}; use the fedrec that wrote it, or a newer one"
            )
        if tuple(row) != asked:
            raise LedgerError(
                f"ledger {self.path} is for unit={row['unit']}, "
                f"dataset_fingerprint={row['dataset_fingerprint']}, not unit={asked[1]}, "
                f"dataset_fingerprint={asked[2]}; each unit and data set needs its own ledger"
            )


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


def canonical_json(value: Mapping[str, Any]) -> str:
    """One text per value: sorted keys, no spaces, no NaN; what hashes are taken over.

    Raises:
        LedgerError: the value is not JSON, or holds a NaN or infinite number.
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise LedgerError(
            f"a release's record must hold finite JSON values: {error}; correct the record"
        ) from error


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

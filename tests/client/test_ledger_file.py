"""What the ledger's file withstands: edits, damage, locks, other programs' files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.ledger import Ledger
from client.ledger_file import transaction
from common.errors import LedgerError
from common.privacy_events import GaussianEvent

EVENT = GaussianEvent(4.0)
RECORD = {"delta": 1e-4}


def key(server_round: int) -> tuple[str, int, str]:
    return ("run-a", server_round, "update")


def open_ledger(path: Path, **changes: Any) -> Ledger:
    return Ledger(path, **({"unit": "user", "dataset_fingerprint": "f00"} | changes))


def spend(ledger: Ledger, server_round: int) -> None:
    ledger.enforce(EVENT, 1e-4, 1e9)
    ledger.charge(key(server_round), EVENT, b"bytes %d" % server_round, RECORD)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE releases SET event_json = NULL",
        "DELETE FROM releases",
        "UPDATE site SET unit = 'example'",
        "DELETE FROM site",
        "INSERT OR REPLACE INTO releases SELECT * FROM releases",
        "INSERT OR REPLACE INTO releases SELECT 9, run, server_round, kind, NULL, delta, "
        "payload, payload_sha256, record_json, created_at FROM releases",
        "INSERT INTO site VALUES (1, 'example', 'f00')",
    ],
)
def test_the_file_is_append_only(path: Path, statement: str) -> None:
    ledger = open_ledger(path)
    spend(ledger, 1)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
    assert ledger.history() == (EVENT,)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"unit": "example"}, "unit=user"), ({"dataset_fingerprint": "bad"}, "fingerprint=f00")],
)
def test_another_units_or_data_sets_ledger_is_refused(
    path: Path, changes: dict[str, str], named: str
) -> None:
    spend(open_ledger(path), 1)
    with pytest.raises(LedgerError, match=named):
        open_ledger(path, **changes)


def _alter(path: Path, statements: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(statements)
    connection.close()


def _write(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


DROP_TRIGGERS = "".join(
    f"DROP TRIGGER {table}_no_{change};"
    for table in ("site", "releases")
    for change in ("update", "delete")
)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_write(b"no database at all" * 500), "damaged or no ledger"),
        (lambda path: path.write_bytes(path.read_bytes()[:6000]) and None, "damaged"),
        (lambda path: _alter(path, DROP_TRIGGERS + "DELETE FROM releases WHERE seq=1"), "damaged"),
        (lambda path: _alter(path, DROP_TRIGGERS + "DELETE FROM site"), "names no site"),
        (lambda path: _alter(path, DROP_TRIGGERS + "UPDATE site SET schema_version=9"), "newer"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(
    path: Path, damage: Callable[[Path], None], named: str
) -> None:
    ledger = open_ledger(path)
    spend(ledger, 1)
    spend(ledger, 2)
    damage(path)
    with pytest.raises(LedgerError, match=named) as raised:
        open_ledger(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_altered_bytes_are_never_sent(path: Path) -> None:
    ledger = open_ledger(path)
    spend(ledger, 1)
    _alter(path, DROP_TRIGGERS + "UPDATE releases SET payload = x'00'")
    with pytest.raises(LedgerError, match="do not match their SHA-256"):
        ledger.find(key(1))


def test_a_failing_transaction_leaves_nothing(path: Path) -> None:
    ledger = open_ledger(path)
    connection = sqlite3.connect(path, isolation_level=None)

    def fail_after_inserting() -> None:
        with transaction(connection):
            connection.execute(
                "INSERT INTO releases "
                "VALUES (1, 'run-a', 1, 'update', NULL, 0, x'00', '', '{}', '')"
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_inserting()
    connection.close()
    assert ledger.find(key(1)) is None


def test_another_programs_database_is_refused_and_untouched(path: Path) -> None:
    _alter(path, "CREATE TABLE mine (x); INSERT INTO mine VALUES (1)")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="not a fedrec ledger"):
        open_ledger(path)
    assert path.read_bytes() == before


def test_a_locked_file_is_named_in_one_line(path: Path) -> None:
    ledger = open_ledger(path, busy_timeout_s=0.05)
    ledger.enforce(EVENT, 1e-4, 100)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked; another process holds it"):
        ledger.charge(key(1), EVENT, b"x", RECORD)
    holder.execute("ROLLBACK")
    holder.close()
    ledger.charge(key(1), EVENT, b"x", RECORD)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="check that its folder exists"):
        open_ledger(tmp_path / "nowhere" / "ledger.sqlite")

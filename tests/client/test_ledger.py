from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ledger import Ledger
from common.accounting import epsilon
from common.errors import BudgetRefusal, LedgerError
from common.privacy_events import GaussianEvent, PrivacyEvent, SampledGaussianEvent

EVENT = GaussianEvent(4.0)
RECORD = {"delta": 1e-4, "kind": "update"}


def key(server_round: int, run: str = "run-a", kind: str = "update") -> tuple[str, int, str]:
    return (run, server_round, kind)


def open_ledger(path: Path, **changes: Any) -> Ledger:
    return Ledger(path, **({"unit": "user", "dataset_fingerprint": "f00"} | changes))


def spend(ledger: Ledger, server_round: int, event: PrivacyEvent = EVENT) -> bytes:
    ledger.enforce(event, 1e-4, 1e9)
    return ledger.charge(key(server_round), event, b"bytes %d" % server_round, RECORD)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_charge_is_one_record_of_cost_and_bytes(path: Path) -> None:
    ledger = open_ledger(path)
    assert ledger.find(key(1)) is None
    assert spend(ledger, 1) == b"bytes 1"
    assert ledger.find(key(1)) == b"bytes 1"
    assert ledger.history() == (EVENT,)


def test_total_is_over_all_runs_and_restarts(path: Path) -> None:
    events: list[PrivacyEvent] = [EVENT, SampledGaussianEvent(2.0, 0.1, 5), EVENT]
    for number, event in enumerate(events):
        ledger = open_ledger(path)
        ledger.enforce(event, 1e-4, 100)
        ledger.charge(key(1, run=f"run-{number}"), event, b"x", RECORD)
    reopened = open_ledger(path)
    assert reopened.history() == tuple(events)
    assert reopened.epsilon(1e-4) == epsilon(events, 1e-4)
    assert reopened.epsilon(1e-4, "rdp") == epsilon(events, 1e-4, "rdp")
    projected = reopened.projected_epsilon(EVENT, 1e-4)
    assert projected == epsilon([*events, EVENT], 1e-4) > reopened.epsilon(1e-4)
    assert reopened.projected_epsilon(None, 1e-4) == reopened.epsilon(1e-4)


def test_retry_returns_the_first_bytes_and_charges_nothing(path: Path) -> None:
    ledger = open_ledger(path)
    spend(ledger, 1)
    for retry in (ledger, open_ledger(path)):
        retry.enforce(EVENT, 1e-4, 100)
        assert retry.charge(key(1), EVENT, b"other noise", RECORD) == b"bytes 1"
    assert len(ledger.history()) == 1


def test_release_without_a_claim_stores_bytes_and_no_event(path: Path) -> None:
    ledger = open_ledger(path)
    assert ledger.charge(key(1), None, b"exact", RECORD) == b"exact"
    assert ledger.find(key(1)) == b"exact"
    assert ledger.history() == ()
    assert ledger.epsilon(1e-4) == 0


def test_budget_is_refused_before_it_is_passed(path: Path) -> None:
    ledger = open_ledger(path)
    spend(ledger, 1)
    limit = ledger.projected_epsilon(EVENT, 1e-4)
    assert ledger.enforce(EVENT, 1e-4, limit) == limit
    with pytest.raises(BudgetRefusal, match=rf"ε={limit:.4f} at δ=0.0001, .* ε=0\.5;"):
        ledger.enforce(EVENT, 1e-4, 0.5)
    with pytest.raises(LedgerError, match="budget was not checked"):
        ledger.charge(key(2), EVENT, b"x", RECORD)
    assert len(ledger.history()) == 1


def test_charge_without_a_check_of_this_event_is_refused(path: Path) -> None:
    ledger = open_ledger(path)
    with pytest.raises(LedgerError, match="budget was not checked"):
        ledger.charge(key(1), EVENT, b"x", RECORD)
    ledger.enforce(EVENT, 1e-4, 100)
    with pytest.raises(LedgerError, match="budget was not checked"):
        ledger.charge(key(1), GaussianEvent(1.0), b"x", RECORD)
    ledger.charge(key(1), EVENT, b"x", RECORD)
    with pytest.raises(LedgerError, match="budget was not checked"):
        ledger.charge(key(2), EVENT, b"x", RECORD)  # one check, one charge
    assert ledger.history() == (EVENT,)


def test_a_check_is_void_once_another_process_has_charged(path: Path) -> None:
    first, second = open_ledger(path), open_ledger(path)
    limit = first.projected_epsilon(EVENT, 1e-4)
    first.enforce(EVENT, 1e-4, limit)
    second.enforce(EVENT, 1e-4, limit)
    first.charge(key(1), EVENT, b"first", RECORD)
    with pytest.raises(LedgerError, match="another process charged it"):
        second.charge(key(2), EVENT, b"second", RECORD)
    with pytest.raises(BudgetRefusal):
        second.enforce(EVENT, 1e-4, limit)
    assert first.epsilon(1e-4) <= limit


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["run-a", "run-b"]),
            st.integers(0, 3),
            st.sampled_from([GaussianEvent(2.0), GaussianEvent(5.0), None]),
        ),
        max_size=12,
    )
)
def test_what_left_the_site_never_costs_more_than_the_limit(
    tmp_path_factory: pytest.TempPathFactory,
    requests: list[tuple[str, int, GaussianEvent | None]],
) -> None:
    path, limit = tmp_path_factory.mktemp("site") / "ledger.sqlite", 3.0
    left: dict[tuple[str, int], tuple[bytes, GaussianEvent | None]] = {}
    for number, (run, server_round, event) in enumerate(requests):
        ledger = open_ledger(path)
        try:
            if event is not None:
                ledger.enforce(event, 1e-4, limit)
        except BudgetRefusal:
            continue
        payload = ledger.charge(key(server_round, run), event, b"%d" % number, RECORD)
        first = left.setdefault((run, server_round), (payload, event))
        assert payload == first[0]
    released = [event for _, event in left.values() if event is not None]
    assert epsilon(released, 1e-4) <= limit
    assert sorted(map(repr, open_ledger(path).history())) == sorted(map(repr, released))


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes"])
def test_a_record_that_is_not_json_is_refused(path: Path, value: object) -> None:
    ledger = open_ledger(path)
    ledger.enforce(EVENT, 1e-4, 100)
    with pytest.raises(LedgerError, match="finite JSON"):
        ledger.charge(key(1), EVENT, b"x", {"delta": value})
    assert ledger.history() == ()


def test_export_is_json_from_which_epsilon_follows(path: Path) -> None:
    ledger = open_ledger(path)
    spend(ledger, 1)
    ledger.charge(key(2), None, b"exact", RECORD)
    exported = json.loads(json.dumps(ledger.export()))
    assert (exported["schema_version"], exported["unit"]) == (1, "user")
    first, second = exported["releases"]
    assert first["event"] == {"event": "gaussian", "noise_multiplier": 4.0, "count": 1}
    assert first["payload_sha256"] == hashlib.sha256(b"bytes 1").hexdigest()
    assert (first["seq"], first["run"], first["server_round"]) == (1, "run-a", 1)
    assert (first["bytes"], first["record"]) == (7, RECORD)
    assert second["event"] is None

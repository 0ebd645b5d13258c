"""Every way to alter a ledger, on a real file through sqlite3: detected, named, recovered."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from client.ledger import Ledger
from client.ledger_log import entry_leaf
from client.policy import SitePolicy
from client.site_ledger import SiteLedger, site_ledger
from common.accounting import epsilon
from common.errors import BudgetRefusal, LedgerError, PolicyRefusal
from common.ledger_checkpoint import Checkpoint
from common.merkle import root
from common.privacy_events import GaussianEvent, merge_events

EVENT, POLICY = GaussianEvent(4.0), SitePolicy(max_epsilon=3.0)
RECORD = {"delta": 1e-4}
USERS = ["ann", "bob", "cy"]
DROP = "".join(
    f"DROP TRIGGER {table}_no_{change};"
    for table in ("site", "releases", "identity", "checkpoints")
    for change in ("update", "delete")
)
DROP += "DROP TRIGGER releases_no_replace;"


def spend(ledger: Ledger, server_round: int, run: str = "r", event: GaussianEvent = EVENT) -> None:
    ledger.enforce(event, 1e-4, 1e9)
    ledger.charge((run, server_round, "update"), event, b"%d" % server_round, RECORD)


@pytest.fixture
def site(tmp_path: Path) -> SiteLedger:
    """A site with four releases, and a copy of its database after two of them."""
    folder = tmp_path / "site"
    folder.mkdir()
    made = site_ledger(
        folder,
        USERS,
        site="north",
        unit="user",
        is_simulated=False,
        anchor=tmp_path / "elsewhere" / "anchor",
    )
    ledger = made.open()
    for server_round in (1, 2, 3, 4):
        spend(ledger, server_round)
        if server_round == 2:
            shutil.copy(made.path, tmp_path / "backup")
    return made


def alter(site: SiteLedger, statements: str) -> None:
    connection = sqlite3.connect(site.path)
    connection.executescript(DROP + statements)
    connection.close()


def kinds(site: SiteLedger, *against: Path) -> set[str]:
    return {fault.kind for fault in site.verify(against)}


def server_copy(site: SiteLedger, path: Path) -> Path:
    """What the server kept of each release: its lines of releases.jsonl."""
    with path.open("w") as file:
        for server_round in range(1, 5):
            kept = site.open().checkpoint(("r", server_round, "update")).model_dump(mode="json")
            file.write(json.dumps({"site": "north", "ledger_checkpoint": kept}) + "\n")
    return path


def restore(site: SiteLedger, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "backup", site.path)
    for name in ("-wal", "-shm"):
        site.path.with_name(site.path.name + name).unlink(missing_ok=True)


SWAP = """
    CREATE TABLE swapped AS SELECT * FROM releases WHERE seq IN (2, 3);
    DELETE FROM releases WHERE seq IN (2, 3);
    INSERT INTO releases SELECT 5 - seq, run, server_round, kind, event_json, delta, payload,
        payload_sha256, record_json, created_at FROM swapped;
    DROP TABLE swapped;
"""
TAMPERING = [
    ("UPDATE releases SET event_json = NULL WHERE seq = 2", {"edit"}),
    ("UPDATE releases SET record_json = '{}' WHERE seq = 1", {"edit"}),
    ("UPDATE releases SET created_at = '' WHERE seq = 4", {"edit"}),
    ("UPDATE releases SET payload = x'3131' WHERE seq = 3", {"edit"}),
    ("UPDATE releases SET payload = x'39' WHERE seq = 3", {"edit"}),
    ("DELETE FROM releases WHERE seq = 2", {"drop"}),
    (
        "DELETE FROM releases WHERE seq = 2; UPDATE releases SET seq = seq - 1 WHERE seq > 2",
        {"drop"},
    ),
    (SWAP, {"reorder"}),
    ("DELETE FROM releases WHERE seq > 2", {"truncation"}),
    (
        "DELETE FROM releases WHERE seq > 2; DELETE FROM checkpoints WHERE tree_size > 2",
        {"truncation"},
    ),
    ("INSERT INTO releases SELECT 5, 'x', server_round, kind, event_json, delta, payload, "
     "payload_sha256, record_json, created_at FROM releases WHERE seq = 1", {"insertion"}),
    ("UPDATE checkpoints SET checkpoint_json = replace(checkpoint_json, 'north', 'south') "
     "WHERE tree_size = 3", {"edit", "drop"}),
    ("DELETE FROM checkpoints WHERE tree_size = 2", {"drop"}),
    ("DELETE FROM checkpoints", {"drop", "rollback"}),
]  # fmt: skip


@pytest.mark.parametrize(("statements", "named"), TAMPERING)
def test_tampering_is_named(site: SiteLedger, statements: str, named: set[str]) -> None:
    assert site.verify() == []
    alter(site, statements)
    found = kinds(site)
    assert found
    assert found <= named


@pytest.mark.parametrize("statements", [s for s, _ in TAMPERING[:11] if "SET payload" not in s])
def test_a_tampered_ledger_cannot_be_spent_from_until_it_is_recovered(
    site: SiteLedger, statements: str
) -> None:
    alter(site, statements)
    with pytest.raises(LedgerError, match=r"damaged|truncation|rollback"):
        site.open()
    site.recover([], POLICY)
    ledger = site.open()
    assert epsilon(ledger.history(), 1e-4) >= epsilon([GaussianEvent(4.0, 4)], 1e-4)
    spend(ledger, 9)
    assert kinds(site) == set()


def test_a_rollback_is_named_refused_and_paid_for(site: SiteLedger, tmp_path: Path) -> None:
    kept = server_copy(site, tmp_path / "releases.jsonl")
    running = site.open()
    restore(site, tmp_path)
    assert kinds(site) == kinds(site, kept) == {"rollback"}
    with pytest.raises(LedgerError, match="rollback: .*ledger recover"):
        site.open()
    with pytest.raises(LedgerError, match="rollback"):
        running.enforce(EVENT, 1e-4, 100)  # set back under a running site
    recovery = site.recover([kept], POLICY)
    assert recovery.event is not None
    assert recovery.event.events == (GaussianEvent(4.0, 2),)
    assert merge_events(site.open().history()) == (GaussianEvent(4.0, 4),)
    assert site.verify([kept]) == []
    spend(site.open(), 5)
    assert site.verify([kept]) == []
    assert site.recover([kept], POLICY) == (None, ())


def test_nothing_is_written_to_a_ledger_that_was_set_back_under_a_running_process(
    site: SiteLedger, tmp_path: Path
) -> None:
    running = site.open()
    restore(site, tmp_path)
    before = site.path.read_bytes()
    with pytest.raises(LedgerError, match="rollback"):
        running.record_refusal(("r", 9, "update"), PolicyRefusal("no"))
    with pytest.raises(LedgerError, match="rollback"):
        running.charge(("r", 9, "update"), None, b"bytes", {"delta": 1e-4})
    assert site.path.read_bytes() == before


def test_a_rollback_with_its_anchor_is_caught_by_the_servers_copy(
    site: SiteLedger, tmp_path: Path
) -> None:
    kept = server_copy(site, tmp_path / "releases.jsonl")
    restore(site, tmp_path)
    lines = site.anchor.path.read_text().splitlines(keepends=True)
    site.anchor.path.write_text("".join(lines[:3]))
    assert site.verify() == []  # the whole host restored: nothing on it can tell
    assert kinds(site, kept) == {"rollback"}
    spend(site.open(), 9, run="second")
    assert kinds(site, kept) == {"fork", "rollback"}
    site.recover([kept], POLICY)
    # Both histories happened: 2 shared, 2 lost, 1 of its own.
    assert merge_events(site.open().history()) == (GaussianEvent(4.0, 5),)
    assert site.verify([kept]) == []


def test_a_fork_is_named_even_with_the_sites_own_key(site: SiteLedger, tmp_path: Path) -> None:
    kept = server_copy(site, tmp_path / "releases.jsonl")
    site.path.unlink()
    site.anchor.path.unlink()
    forged = site.open()  # the holder of the key signs another history of the same length
    for server_round in (1, 2, 3, 4):
        spend(forged, server_round, event=GaussianEvent(40.0))
    assert site.verify() == []
    assert kinds(site, kept) == {"fork"}


def test_a_deleted_database_is_a_rollback_to_nothing(site: SiteLedger) -> None:
    site.path.unlink()
    with pytest.raises(LedgerError, match="rollback"):
        site.open()
    site.recover([], POLICY)
    assert merge_events(site.open().history()) == (GaussianEvent(4.0, 4),)


def test_without_any_copy_the_whole_budget_is_spent(site: SiteLedger) -> None:
    site.anchor.path.unlink()
    assert kinds(site) == {"anchor"}
    with pytest.raises(LedgerError, match="anchor .* is missing"):
        site.open()
    site.recover([], POLICY)
    with pytest.raises(BudgetRefusal):
        site.open().enforce(GaussianEvent(100.0), POLICY.max_delta, POLICY.max_epsilon)
    assert site.verify() == []


def test_an_anchor_that_is_behind_is_made_good(site: SiteLedger) -> None:
    whole = site.anchor.path.read_text()
    site.anchor.path.write_text("".join(whole.splitlines(keepends=True)[:3]) + '{"cut sho')
    assert site.verify() == []
    site.open()
    assert site.anchor.path.read_text() == whole


def test_a_forged_reference_is_named(site: SiteLedger, tmp_path: Path) -> None:
    forged = site.open().checkpoint().model_copy(update={"tree_size": 9})
    path = tmp_path / "forged.json"
    path.write_text(forged.text())
    assert kinds(site, path) == {"forged"}
    path.write_text("{}")
    with pytest.raises(LedgerError, match="holds no ledger checkpoint"):
        site.verify([path])


def test_another_data_set_and_another_key_are_refused(site: SiteLedger, tmp_path: Path) -> None:
    options = {
        "site": "north", "unit": "user", "is_simulated": False, "anchor": site.anchor.path,
    }  # fmt: skip
    other = site_ledger(site.path.parent, [*USERS, "dee"], **options)  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match="own ledger"):
        other.open()
    for key in (site.path.parent / "keys").iterdir():
        assert key.stat().st_mode & 0o077 == 0
        key.write_bytes(bytes(32))
    with pytest.raises(LedgerError, match="own ledger"):
        site_ledger(site.path.parent, USERS, **options).open()  # type: ignore[arg-type]
    (site.path.parent / "keys" / "identity.key").unlink()
    with pytest.raises(LedgerError, match="is missing; restore it"):
        site_ledger(site.path.parent, USERS, **options)  # type: ignore[arg-type]


def test_a_refusal_is_an_entry_without_cost(site: SiteLedger) -> None:
    ledger = site.open()
    for _ in range(2):
        ledger.record_refusal(("r", 5, "update"), PolicyRefusal("no"))
    exported = ledger.export()
    (refusal,) = exported["refusals"]
    assert refusal["record"] == {"refused": "update", "error": "PolicyRefusal", "reason": "no"}
    assert len(ledger.history()) == 4
    assert site.verify() == []


def test_the_exports_signed_root_follows_from_its_entries(site: SiteLedger) -> None:
    site.open().record_refusal(("r", 5, "update"), PolicyRefusal("no"))
    exported = json.loads(json.dumps(site.open().export()))
    entries = [*exported["releases"], *exported["refusals"]]
    checkpoint = Checkpoint.model_validate_json(json.dumps(exported["checkpoint"]))
    assert checkpoint.is_signed_by(site.identity.public_key)
    assert root([entry_leaf(entry) for entry in entries]).hex() == checkpoint.root
    assert checkpoint.spent_events() == (GaussianEvent(4.0, 4),)
    assert not checkpoint.model_copy(update={"spent": ()}).is_signed_by(site.identity.public_key)


def test_the_fingerprint_is_of_the_set_of_users_and_needs_the_key(
    site: SiteLedger, tmp_path: Path
) -> None:
    identity = site.identity
    assert identity.fingerprint(USERS, "user") == identity.fingerprint(USERS[::-1], "user")
    assert identity.fingerprint(USERS, "user") != identity.fingerprint(USERS, "example")
    assert identity.fingerprint(["ab", "c"], "user") != identity.fingerprint(["a", "bc"], "user")
    other = site_ledger(tmp_path, USERS, site="north", unit="user", is_simulated=True)
    assert other.identity.fingerprint(USERS, "user") != identity.fingerprint(USERS, "user")
    assert "key" not in repr(identity).lower()

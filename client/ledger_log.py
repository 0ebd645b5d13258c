"""The entries of a ledger as a Merkle log: reading, appending and sealing them.

An entry is a release, a refusal (kind ``refusal:…``, no event, no bytes) or a recovery
(kind ``recovered``). Its leaf is the hash of its canonical JSON without its number, which
the tree itself fixes.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from client.ledger_file import LedgerOwner
from client.site_identity import SiteIdentity
from common.canonical_json import canonical_json
from common.errors import LedgerError
from common.ledger_checkpoint import Checkpoint, sign_checkpoint
from common.merkle import leaf_hash, prefix_roots
from common.privacy_events import PrivacyEvent, event_from_dict, event_to_dict, merge_events

RECOVERED = "recovered"
REFUSAL = "refusal:"


class ReleaseKey(NamedTuple):
    """What an entry is for; a site answers each key once, and retries with equal bytes."""

    run: str
    server_round: int
    kind: str


def history(connection: sqlite3.Connection) -> tuple[tuple[PrivacyEvent, ...], int]:
    """All charged events in order, and the number of the last entry (0 for none)."""
    rows = connection.execute("SELECT seq, event_json FROM releases ORDER BY seq").fetchall()
    events = tuple(
        event_from_dict(json.loads(row["event_json"])) for row in rows if row["event_json"]
    )
    return events, rows[-1]["seq"] if rows else 0


def run_history(connection: sqlite3.Connection, run: str) -> tuple[PrivacyEvent, ...]:
    """The events that one run was charged."""
    rows = connection.execute(
        "SELECT event_json FROM releases WHERE run = ? AND event_json IS NOT NULL ORDER BY seq",
        (run,),
    ).fetchall()
    return tuple(event_from_dict(json.loads(row["event_json"])) for row in rows)


def last_seq(connection: sqlite3.Connection) -> int:
    """The number of the last entry, 0 for none."""
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM releases").fetchone()[0])


def stored_payload(connection: sqlite3.Connection, key: ReleaseKey) -> bytes | None:
    """The bytes stored under `key`.

    Raises:
        LedgerError: they are not those that were charged.
    """
    row = connection.execute(
        "SELECT payload, payload_sha256 FROM releases "
        "WHERE run = ? AND server_round = ? AND kind = ?",
        key,
    ).fetchone()
    if row is None:
        return None
    payload = bytes(row["payload"])
    if hashlib.sha256(payload).hexdigest() != row["payload_sha256"]:
        raise LedgerError(
            f"ledger: the stored bytes of {tuple(key)} do not match their SHA-256; "
            "restore the file from a backup"
        )
    return payload


def append_entry(
    connection: sqlite3.Connection,
    key: ReleaseKey,
    event: PrivacyEvent | None,
    payload: bytes,
    record: Mapping[str, Any],
) -> int:
    """Appends one entry and returns its number; the caller seals it.

    Raises:
        LedgerError: the record is not JSON, or holds a NaN or infinite number.
    """
    try:
        encoded_record = canonical_json(record)
    except ValueError as error:
        raise LedgerError(
            f"a release's record must hold finite JSON values: {error}; correct the record"
        ) from error
    seq = last_seq(connection) + 1
    connection.execute(
        "INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            seq,
            *key,
            None if event is None else canonical_json(event_to_dict(event)),
            record.get("delta"),
            payload,
            hashlib.sha256(payload).hexdigest(),
            encoded_record,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
        ),
    )
    return seq


def entries(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every entry but for its bytes, JSON-able, in order; `entry_leaf` hashes one.

    Raises:
        LedgerError: an entry is not what a ledger writes.
    """
    rows = connection.execute(
        "SELECT seq, run, server_round, kind, event_json, delta, length(payload) AS bytes, "
        "payload_sha256, record_json, created_at FROM releases ORDER BY seq"
    ).fetchall()
    found = []
    for row in rows:
        entry = dict(row)
        event, record = entry.pop("event_json"), entry.pop("record_json")
        try:
            entry["event"] = None if event is None else json.loads(event)
            entry["record"] = json.loads(record)
        except ValueError as error:
            raise LedgerError(
                f"ledger is damaged: edit: entry {row['seq']} holds no JSON ({error}); "
                "restore the file from a backup"
            ) from error
        found.append(entry)
    return found


def entry_leaf(entry: Mapping[str, Any]) -> bytes:
    """The RFC 6962 leaf hash of an entry, as read by `entries` or from an export."""
    content = {name: value for name, value in entry.items() if name != "seq"}
    return leaf_hash(canonical_json(content).encode("utf-8"))


def leaves(connection: sqlite3.Connection) -> list[bytes]:
    """The leaf hashes of what the table holds now."""
    return [entry_leaf(entry) for entry in entries(connection)]


def seal(
    connection: sqlite3.Connection,
    owner: LedgerOwner,
    identity: SiteIdentity,
    entry: int,
    leaf_hashes: Sequence[bytes],
    root: bytes,
) -> None:
    """Signs the log as it stands, in the transaction that made it so."""
    checkpoint = sign_checkpoint(
        identity.signing_key,
        site=owner.site,
        ledger_id=owner.ledger_id,
        tree_size=len(leaf_hashes),
        root=root,
        spent=merge_events(history(connection)[0]),
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    connection.execute(
        "INSERT INTO checkpoints (entry, tree_size, leaf, checkpoint_json) VALUES (?, ?, ?, ?)",
        (
            entry,
            len(leaf_hashes),
            leaf_hashes[-1].hex() if leaf_hashes else "",
            checkpoint.text(),
        ),
    )


def seal_next(
    path: Path,
    connection: sqlite3.Connection,
    owner: LedgerOwner,
    identity: SiteIdentity,
    entry: int,
) -> None:
    """Seals the log with its newest entry, if all before it is as it was last signed.

    Raises:
        LedgerError: earlier entries are not those of the last checkpoint.
    """
    found = leaves(connection)
    roots = prefix_roots(found)
    check_last_root(path, connection, roots[:-1])
    seal(connection, owner, identity, entry, found, roots[-1])


def check_last_root(path: Path, connection: sqlite3.Connection, roots: Sequence[bytes]) -> None:
    """Raises `LedgerError` unless the newest checkpoint is of the log with these prefix roots."""
    newest = last_checkpoint(connection)
    if newest is None or newest.place != (len(roots) - 1, roots[-1].hex()):
        raise LedgerError(
            f"ledger {path} is damaged: its entries are not those of its last signed checkpoint; "
            "nothing was charged; fedrec-site ledger verify names what was changed"
        )


def last_checkpoint(connection: sqlite3.Connection) -> Checkpoint | None:
    """The newest checkpoint in the database."""
    row = connection.execute(
        "SELECT checkpoint_json FROM checkpoints ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return None if row is None else _checkpoint(row["checkpoint_json"])


def checkpoint_of(connection: sqlite3.Connection, key: ReleaseKey) -> Checkpoint | None:
    """The checkpoint that was made in the transaction that charged `key`."""
    row = connection.execute(
        "SELECT checkpoint_json FROM checkpoints JOIN releases ON entry = seq "
        "WHERE run = ? AND server_round = ? AND kind = ?",
        key,
    ).fetchone()
    return None if row is None else _checkpoint(row["checkpoint_json"])


def _checkpoint(text: str) -> Checkpoint:
    try:
        return Checkpoint.model_validate_json(text)
    except ValueError as error:
        raise LedgerError(
            "the ledger is damaged: a checkpoint cannot be read; "
            "fedrec-site ledger verify names what was changed"
        ) from error

"""A ledger and its anchor: the database may be ahead of its anchor, and never behind it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from client.anchor import Anchor
from client.ledger_file import LedgerFile, LedgerOwner, transaction
from client.ledger_log import check_last_root, last_checkpoint, leaves
from common.errors import LedgerError
from common.ledger_checkpoint import Checkpoint, parse_checkpoint
from common.merkle import prefix_roots

_REMEDY = (
    "nothing was trained or released; fedrec-site ledger verify says what differs, and "
    "fedrec-site ledger recover adopts the higher spend"
)


def check_anchored(
    path: Path, connection: sqlite3.Connection, anchor: Anchor, anchored: Checkpoint | None
) -> None:
    """Refuse a database that is not what its anchor knows, or an extension of it.

    Args:
        path: of the database, for the message.
        connection: to the database.
        anchor: its anchor.
        anchored: the anchor's last checkpoint, read *before* the database: another process
            moves the database first.

    Raises:
        LedgerError: the database was set back (rollback), differs (fork), or its anchor is
            gone.
    """
    newest = last_checkpoint(connection)
    size = 0 if newest is None else newest.tree_size
    if anchored is None:
        if size:
            raise LedgerError(
                f"ledger {path} has {size} entries and its anchor {anchor.path} is missing; "
                f"{_REMEDY}"
            )
    elif _number_of(connection, anchored) is None:
        kind = "rollback" if anchored.tree_size > size else "fork"
        raise LedgerError(
            f"{kind}: ledger {path} has {size} entries, its anchor {anchor.path} knows "
            f"{anchored.tree_size} that are not its first; {_REMEDY}"
        )


def check_owner(path: Path, found: LedgerOwner, asked: LedgerOwner) -> None:
    """Raises `LedgerError` unless the ledger is this key's, unit's and data set's."""
    if found[:2] != asked[:2]:
        raise LedgerError(
            f"ledger {path} is for unit={found.unit}, "
            f"dataset_fingerprint={found.dataset_fingerprint}, not unit={asked.unit}, "
            f"dataset_fingerprint={asked.dataset_fingerprint}; each unit and data set needs "
            "its own ledger"
        )
    if (found.ledger_id, found.public_key) != (asked.ledger_id, asked.public_key):
        raise LedgerError(
            f"ledger {path} was begun with the identity key {found.public_key[:16]}…, not "
            f"{asked.public_key[:16]}…; restore the site's own keys"
        )


def check_opened(file: LedgerFile, owner: LedgerOwner, anchor: Anchor) -> None:
    """Refuse a ledger that is not whole, ours, as last signed, and level with its anchor.

    Raises:
        LedgerError: it is not.
    """
    anchored = anchor.last()
    with file.connection() as connection:
        check_owner(file.path, file.check(connection), owner)
        connection.execute("BEGIN")  # one state of the database for both
        try:
            check_last_root(file.path, connection, prefix_roots(leaves(connection)))
            check_anchored(file.path, connection, anchor, anchored)
        finally:
            connection.execute("ROLLBACK")
        bring_forward(connection, anchor)


def bring_forward(connection: sqlite3.Connection, anchor: Anchor) -> None:
    """Append to the anchor what the database has and it lacks.

    The database's write lock is held meanwhile, so that processes do not overtake each
    other; where the anchor is level, as it mostly is, nothing is locked.

    Raises:
        LedgerError: the database does not extend the anchor.
        RunFolderError: the anchor cannot be written.
    """
    anchored, newest = anchor.last(), last_checkpoint(connection)
    if anchored == newest:
        return
    with transaction(connection):
        anchored = anchor.last()
        known = 0 if anchored is None else _number_of(connection, anchored)
        if known is None:
            raise LedgerError(f"rollback: anchor {anchor.path} knows another history; {_REMEDY}")
        rows = connection.execute(
            "SELECT checkpoint_json FROM checkpoints WHERE id > ? ORDER BY id", (known,)
        ).fetchall()
        lacking = [parse_checkpoint(row["checkpoint_json"]) for row in rows]
        if lacking:
            anchor.append([each for each in lacking if each is not None])


def _number_of(connection: sqlite3.Connection, checkpoint: Checkpoint) -> int | None:
    """The number of this very checkpoint in the database, or None."""
    row = connection.execute(
        "SELECT id FROM checkpoints WHERE tree_size = ? AND checkpoint_json = ?",
        (checkpoint.tree_size, checkpoint.text()),
    ).fetchone()
    return None if row is None else int(row["id"])

"""A ledger as JSON, without its bytes: for the auditor."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from client.ledger_file import LedgerFile, LedgerOwner
from client.ledger_log import RECOVERED, REFUSAL, entries, last_checkpoint
from common.errors import LedgerError

EXPORT_VERSION = 1


def exported(connection: sqlite3.Connection, owner: LedgerOwner) -> dict[str, Any]:
    """The ledger's entries by sort, and the newest signed checkpoint.

    All entries in the order of `seq` are the leaves (`client.ledger_log.entry_leaf`) of the
    tree whose root the checkpoint signs.
    """
    found, newest = entries(connection), last_checkpoint(connection)
    sorts: dict[str, list[dict[str, Any]]] = {"releases": [], "refusals": [], "recovered": []}
    for entry in found:
        kind = entry["kind"]
        is_refusal = kind.startswith(REFUSAL)
        sort = "refusals" if is_refusal else "recovered" if kind == RECOVERED else "releases"
        sorts[sort].append(entry)
    return {
        "schema_version": EXPORT_VERSION,
        "unit": owner.unit,
        "dataset_fingerprint": owner.dataset_fingerprint,
        **sorts,
        "checkpoint": None if newest is None else newest.model_dump(mode="json"),
    }


def export_file(path: Path) -> dict[str, Any]:
    """The export of the ledger at `path`, whatever state it is in; it needs no keys.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
    """
    file = LedgerFile(path)
    if not file.exists():
        raise LedgerError(f"there is no ledger {path}; the site's first release begins it")
    with file.connection() as connection:
        return exported(connection, file.check(connection))

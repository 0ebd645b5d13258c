"""The site's own, lifelong record of what it released and what that cost.

One SQLite file per site (write-ahead log, ``synchronous=FULL``), append-only by triggers.
A release's charge and its outgoing bytes commit in one transaction, so that a crash before
the commit spends nothing, and after it the charge stands and a retry sends the same bytes.

Every operation opens and closes its own connection: a ledger may be used by several
processes, survives a fork, and a thousand sites hold no open file. A budget is checked
against the ledger's state, and `charge` refuses if that state has moved since: two
processes that checked the same budget cannot both spend it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from client.ledger_file import SCHEMA_VERSION, LedgerFile, canonical_json, transaction
from common.accounting import Accountant, epsilon
from common.errors import BudgetRefusal, LedgerError
from common.privacy_events import PrivacyEvent, event_from_dict, event_to_dict


class ReleaseKey(NamedTuple):
    """What a release is for; a site answers each key once, and retries with equal bytes."""

    run: str
    server_round: int
    kind: str


class _Clearance(NamedTuple):
    """A budget check: which event, against which state of the ledger."""

    event: PrivacyEvent
    last_seq: int


class Ledger:
    """The ledger of one site, one unit and one data set; see the module's docstring.

    The promise it keeps: the events in it are at least all that ever left the site, and
    `enforce` before `charge` keeps their total within the site's limit.
    """

    def __init__(
        self, path: Path, *, unit: str, dataset_fingerprint: str, busy_timeout_s: float = 10.0
    ) -> None:
        """Open the ledger, or begin it where there is none.

        Args:
            path: the SQLite file; its folder exists.
            unit: the privacy unit, e.g. "user".
            dataset_fingerprint: of the data whose units are charged.
            busy_timeout_s: how long to wait for another process's transaction.

        Raises:
            LedgerError: damaged, locked, not writable, or another unit's or data set's.
        """
        self.path = path
        self.unit = unit
        self.dataset_fingerprint = dataset_fingerprint
        self._clearance: _Clearance | None = None
        self._file = LedgerFile(
            path,
            unit=unit,
            dataset_fingerprint=dataset_fingerprint,
            busy_timeout_s=busy_timeout_s,
        )

    def history(self) -> tuple[PrivacyEvent, ...]:
        """Every charged event over all runs, in order of charging."""
        with self._file.connection() as connection:
            return _history(connection)[0]

    def epsilon(self, delta: float, accountant: Accountant = "prv") -> float:
        """The site's total ε at `delta` over all runs so far."""
        return epsilon(self.history(), delta, accountant)

    def projected_epsilon(
        self, event: PrivacyEvent | None, delta: float, accountant: Accountant = "prv"
    ) -> float:
        """The total ε at `delta` if `event` were charged now; charges nothing."""
        history = self.history()
        return epsilon(history if event is None else (*history, event), delta, accountant)

    def enforce(self, event: PrivacyEvent, delta: float, max_epsilon: float) -> float:
        """Check, before any training, that the site can afford `event`.

        The next `charge` must be for this event and finds the ledger as this check did.

        Args:
            event: what the release will cost.
            delta: δ of the site's limit.
            max_epsilon: ε of the site's limit over the ledger's life; inf for none.

        Returns:
            The projected total ε.

        Raises:
            BudgetRefusal: the projected total passes `max_epsilon`.
        """
        self._clearance = None
        with self._file.connection() as connection:
            history, last_seq = _history(connection)
        projected = epsilon((*history, event), delta)
        if not projected <= max_epsilon:
            raise BudgetRefusal(
                f"privacy budget: this release would bring the site to ε={projected:.4f} at "
                f"δ={delta:g}, over its limit of ε={max_epsilon:g}; nothing was trained or "
                "released; the site's operator may raise the limit, or ask for more noise"
            )
        self._clearance = _Clearance(event, last_seq)
        return projected

    def find(self, key: tuple[str, int, str]) -> bytes | None:
        """The bytes already charged under `key`, or None; a retry is answered with them.

        Raises:
            LedgerError: the stored bytes are damaged.
        """
        with self._file.connection() as connection:
            return _stored(connection, ReleaseKey(*key))

    def charge(
        self,
        key: tuple[str, int, str],
        event: PrivacyEvent | None,
        payload: bytes,
        record: Mapping[str, Any],
    ) -> bytes:
        """Charge a release and store its outgoing bytes, both or neither.

        Nothing may leave the site before this returns, and then exactly what it returns.

        Args:
            key: (run, server_round, kind).
            event: what the release cost, as checked by `enforce`; None for a release
                without a claim (privacy.mode=none).
            payload: the bytes to be sent.
            record: the release's record (JSON values; `delta` is also kept as a column).

        Returns:
            The bytes stored under `key`: `payload`, or those of an earlier charge of the
            same key, in which case nothing is charged.

        Raises:
            LedgerError: no `enforce` of this event, another process charged since, or the
                transaction could not be made durable; nothing is charged then.
        """
        encoded_event = None if event is None else canonical_json(event_to_dict(event))
        encoded_record = canonical_json(record)
        release = ReleaseKey(*key)
        with self._file.connection() as connection, transaction(connection):
            stored = _stored(connection, release)
            if stored is not None:
                return stored
            if event is not None:
                self._check_clearance(event, _last_seq(connection))
            connection.execute(
                "INSERT INTO releases (run, server_round, kind, event_json, delta, payload, "
                "payload_sha256, record_json, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *release,
                    encoded_event,
                    record.get("delta"),
                    payload,
                    hashlib.sha256(payload).hexdigest(),
                    encoded_record,
                    datetime.now(UTC).isoformat(timespec="milliseconds"),
                ),
            )
        self._clearance = None
        return payload

    def export(self) -> dict[str, Any]:
        """Everything but the payloads, JSON-able: what an auditor needs to recompute ε."""
        with self._file.connection() as connection:
            rows = connection.execute(
                "SELECT seq, run, server_round, kind, event_json, delta, length(payload) AS bytes, "
                "payload_sha256, record_json, created_at FROM releases ORDER BY seq"
            ).fetchall()
        releases = []
        for row in rows:
            entry = dict(row)
            event, record = entry.pop("event_json"), entry.pop("record_json")
            entry["event"] = None if event is None else json.loads(event)
            entry["record"] = json.loads(record)
            releases.append(entry)
        return {
            "schema_version": SCHEMA_VERSION,
            "unit": self.unit,
            "dataset_fingerprint": self.dataset_fingerprint,
            "releases": releases,
        }

    def _check_clearance(self, event: PrivacyEvent, last_seq: int) -> None:
        if self._clearance is None or self._clearance.event != event:
            raise LedgerError(
                f"ledger {self.path}: the budget was not checked for {event}; call enforce with "
                "this event before training; nothing was charged"
            )
        if self._clearance.last_seq != last_seq:
            raise LedgerError(
                f"ledger {self.path}: another process charged it after the budget was checked; "
                "nothing was charged; check the budget again"
            )


def _history(connection: sqlite3.Connection) -> tuple[tuple[PrivacyEvent, ...], int]:
    """All charged events in order, and the number of the last release (0 for none)."""
    rows = connection.execute("SELECT seq, event_json FROM releases ORDER BY seq").fetchall()
    events = tuple(
        event_from_dict(json.loads(row["event_json"])) for row in rows if row["event_json"]
    )
    return events, rows[-1]["seq"] if rows else 0


def _last_seq(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM releases").fetchone()[0])


def _stored(connection: sqlite3.Connection, key: ReleaseKey) -> bytes | None:
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

"""The site's own, lifelong record of what it released and what that cost.

One SQLite file per site (write-ahead log, flushed as `client.durability` says), append-only
by triggers, and a Merkle log: each entry is sealed by a signed checkpoint in its own
transaction, and the checkpoint then goes to an anchor file elsewhere
(`client.ledger_guard`). A release's
charge and its outgoing bytes commit together, so that a crash before the commit spends
nothing, and after it the charge stands and a retry sends the same bytes.

Every operation, or a few in a row (`held`), opens and closes its own connection: a ledger
may be used by several processes, survives a fork, and a thousand sites hold no open file. A
budget is checked
against the ledger's state, and `charge` refuses if that state has moved since: two
processes that checked the same budget cannot both spend it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from client.anchor import Anchor
from client.budget import RunLimit, refuse_beyond
from client.durability import Durability
from client.ledger_export import exported
from client.ledger_file import LedgerFile, LedgerOwner, transaction
from client.ledger_guard import bring_forward, check_anchored, check_opened
from client.ledger_log import (
    REFUSAL,
    ReleaseKey,
    append_entry,
    checkpoint_of,
    history,
    last_checkpoint,
    last_seq,
    run_history,
    seal,
    seal_next,
    stored_payload,
)
from client.site_identity import load_identity
from common.accounting import Accountant, epsilon
from common.errors import LedgerError, Refusal, SecAggRefusal
from common.ledger_checkpoint import Checkpoint
from common.merkle import EMPTY_ROOT
from common.privacy_events import PrivacyEvent


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
        self,
        path: Path,
        *,
        unit: str,
        dataset_fingerprint: str,
        site: str = "site",
        keys: Path | None = None,
        anchor: Path | None = None,
        busy_timeout_s: float = 10.0,
        durability: Durability = Durability.MACHINE,
    ) -> None:
        """Open the ledger, or begin it where there is none.

        Args:
            path: the SQLite file; its folder exists.
            unit: the privacy unit, e.g. "user".
            dataset_fingerprint: of the data whose units are charged.
            site: the site's public name, for its checkpoints.
            keys: folder of the site's keys; None: ``keys`` beside the file.
            anchor: the second place for checkpoints. None: beside the file, where it sees
                no folder that was set back as a whole (`client.site_ledger` knows better).
            busy_timeout_s: how long to wait for another process's transaction.
            durability: what a charge survives.

        Raises:
            LedgerError: damaged, locked, not writable, set back, or another unit's or data
                set's.
        """
        self.path = path
        self.unit = unit
        self.dataset_fingerprint = dataset_fingerprint
        self.anchor = Anchor(anchor or path.with_name(path.name + ".anchor"), durability)
        self._clearance: _Clearance | None = None
        self._file = LedgerFile(path, busy_timeout_s=busy_timeout_s, durability=durability)
        with self._file.held():
            self._open(keys or path.parent / "keys", site, durability)

    def _open(self, keys: Path, site: str, durability: Durability) -> None:
        unit, dataset_fingerprint = self.unit, self.dataset_fingerprint
        is_new = not self._file.exists()
        self.identity = load_identity(keys, begin=is_new, durability=durability)
        self._owner = LedgerOwner(
            unit,
            dataset_fingerprint,
            site,
            self.identity.ledger_id(unit, dataset_fingerprint),
            self.identity.public_key,
        )
        self._file.begin(self._owner, self._seal_empty)
        check_opened(self._file, self._owner, self.anchor)

    def held(self) -> AbstractContextManager[None]:
        """The operations of this thread inside share one connection; see `LedgerFile.held`."""
        return self._file.held()

    def history(self) -> tuple[PrivacyEvent, ...]:
        """Every charged event over all runs, in order of charging."""
        with self._file.connection() as connection:
            return history(connection)[0]

    def epsilon(self, delta: float, accountant: Accountant = "prv") -> float:
        """The site's total ε at `delta` over all runs so far."""
        return epsilon(self.history(), delta, accountant)

    def projected_epsilon(self, event: PrivacyEvent | None, delta: float) -> float:
        """The total ε at `delta` if `event` were charged now; charges nothing."""
        spent = self.history()
        return epsilon(spent if event is None else (*spent, event), delta)

    def enforce(
        self,
        event: PrivacyEvent,
        delta: float,
        max_epsilon: float,
        run_limit: RunLimit | None = None,
    ) -> float:
        """Check, before any training, that the site can afford `event`.

        The next `charge` must be for this event and finds the ledger as this check did.

        Args:
            event: what the release will cost.
            delta: δ of the site's limit.
            max_epsilon: ε of the site's limit over the ledger's life; inf for none.
            run_limit: limit of the run's own total, if it has one.

        Returns:
            The projected total ε.

        Raises:
            BudgetRefusal: a projected total passes its limit.
            LedgerError: the database was set back, or differs from its anchor.
        """
        self._clearance = None
        anchored = self.anchor.last()
        with self._file.connection() as connection:
            check_anchored(self.path, connection, self.anchor, anchored)
            spent, last = history(connection)
            of_run = () if run_limit is None else run_history(connection, run_limit.run)
        projected = epsilon((*spent, event), delta)
        refuse_beyond("the site", projected, delta, max_epsilon)
        if run_limit is not None:
            total = epsilon((*of_run, event), run_limit.delta)
            refuse_beyond("this run", total, run_limit.delta, run_limit.max_epsilon)
        self._clearance = _Clearance(event, last)
        return projected

    def find(self, key: tuple[str, int, str]) -> bytes | None:
        """The bytes already charged under `key`, or None; a retry is answered with them.

        Raises:
            LedgerError: the stored bytes are damaged, or the database was set back.
        """
        with self._file.connection() as connection:
            stored = stored_payload(connection, ReleaseKey(*key))
            if stored is not None:
                bring_forward(connection, self.anchor)
            return stored

    def checkpoint(self, key: tuple[str, int, str] | None = None) -> Checkpoint:
        """The newest checkpoint, or the one that the charge of `key` made.

        Raises:
            LedgerError: there is none.
        """
        with self._file.connection() as connection:
            found = (
                last_checkpoint(connection)
                if key is None
                else checkpoint_of(connection, ReleaseKey(*key))
            )
        if found is None:
            raise LedgerError(f"ledger {self.path} has no checkpoint for {key}; verify it")
        return found

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
            LedgerError: no `enforce` of this event, another process charged since, the
                ledger was altered, or the transaction could not be made durable; nothing is
                charged then.
            RunFolderError: the anchor cannot be written; the charge stands, and a retry
                sends these bytes once it can.
        """
        release = ReleaseKey(*key)
        anchored = self.anchor.last()
        with self._file.connection() as connection:
            with transaction(connection):
                stored = stored_payload(connection, release)
                if stored is None:
                    check_anchored(self.path, connection, self.anchor, anchored)
                    if event is not None:
                        self._check_clearance(event, last_seq(connection))
                    entry = append_entry(connection, release, event, payload, record)
                    seal_next(self.path, connection, self._owner, self.identity, entry)
            bring_forward(connection, self.anchor)
        if stored is not None:
            return stored
        self._clearance = None
        return payload

    def record_refusal(self, key: tuple[str, int, str], refusal: Refusal) -> None:
        """Enter that the site said no: no cost, no bytes; once per key, class and reason.

        Raises:
            LedgerError: as `charge`.
        """
        run, server_round, kind = key
        error = type(refusal).__name__
        record = {"refused": kind, "error": error, "reason": str(refusal)}
        sort = f"{error}:{refusal.reason}" if isinstance(refusal, SecAggRefusal) else error
        self.charge((run, server_round, f"{REFUSAL}{kind}:{sort}"), None, b"", record)

    def export(self) -> dict[str, Any]:
        """Everything but the payloads, JSON-able: what an auditor needs to recompute ε."""
        with self._file.connection() as connection:
            return exported(connection, self._owner)

    def _seal_empty(self, connection: sqlite3.Connection) -> None:
        seal(connection, self._owner, self.identity, 0, [], EMPTY_ROOT)

    def _check_clearance(self, event: PrivacyEvent, last: int) -> None:
        if self._clearance is None or self._clearance.event != event:
            raise LedgerError(
                f"ledger {self.path}: the budget was not checked for {event}; call enforce with "
                "this event before training; nothing was charged"
            )
        if self._clearance.last_seq != last:
            raise LedgerError(
                f"ledger {self.path}: another process charged it after the budget was checked; "
                "nothing was charged; check the budget again"
            )

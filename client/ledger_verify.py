"""What was done to a ledger: each fault found, and named.

The table is held against the checkpoints in the database, and these against the anchor and
every checkpoint that was handed in. The last two are what catches a database that is whole
and older, or whole and another: whoever holds the site's key can sign anything, and cannot
take back what others keep.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from client.ledger_log import RECOVERED, entries, entry_leaf
from common.errors import LedgerError
from common.ledger_checkpoint import Checkpoint, parse_checkpoint
from common.merkle import prefix_roots

FaultKind = Literal[
    "edit", "drop", "insertion", "reorder", "truncation", "rollback", "fork", "forged", "anchor"
]
Place = tuple[int, str]


class Fault(NamedTuple):
    """One thing that is wrong, in words that name the kind and the place."""

    kind: FaultKind
    text: str


@dataclass(frozen=True)
class LedgerState:
    """A ledger's table and checkpoints as they are, right or wrong.

    Attributes:
        leaves: leaf hash (hex) of each entry, in order.
        roots: root (hex) of the table at every size.
        seqs: the entries' numbers.
        expected: leaf hash by position, as the checkpoints of this history were made for it.
        own: every readable checkpoint in the database that the site's key signed.
        unsigned: numbers of the checkpoints that are unreadable or not signed by the site.
        adopted: places of histories that a recovery has adopted.
        recovered_at: position of the last recovery, which signed all before it anew; or 0.
        last_number: the last number that the database ever gave to an entry.
        altered_bytes: entries whose stored bytes are not what was charged.
    """

    leaves: tuple[str, ...]
    roots: tuple[str, ...]
    seqs: tuple[int, ...]
    expected: Mapping[int, str]
    own: tuple[Checkpoint, ...]
    unsigned: tuple[int, ...]
    adopted: frozenset[Place]
    recovered_at: int
    last_number: int
    altered_bytes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.leaves)

    @property
    def current(self) -> tuple[Checkpoint, ...]:
        """The database's checkpoints of this history, without those that were adopted."""
        return tuple(each for each in self.own if each.place not in self.adopted)

    def holds(self, place: Place) -> bool:
        """Whether the table's first entries have that root."""
        return place[0] <= self.size and self.roots[place[0]] == place[1]


def read_state(connection: sqlite3.Connection, public_key: str) -> LedgerState:
    """Reads a ledger as it is.

    Raises:
        LedgerError: an entry is not JSON.
    """
    found = entries(connection)
    leaf_hashes = [entry_leaf(entry) for entry in found]
    adopted = frozenset(
        (int(place["tree_size"]), str(place["root"]))
        for entry in found
        if entry["kind"] == RECOVERED
        for place in entry["record"]["adopted"]
    )
    own, unsigned, expected = list[Checkpoint](), list[int](), dict[int, str]()
    for row in connection.execute("SELECT * FROM checkpoints ORDER BY id").fetchall():
        checkpoint = parse_checkpoint(row["checkpoint_json"])
        if checkpoint is None or not checkpoint.is_signed_by(public_key):
            unsigned.append(row["id"])
            continue
        own.append(checkpoint)
        if checkpoint.tree_size and checkpoint.place not in adopted:
            expected[checkpoint.tree_size] = row["leaf"]
    number = connection.execute(
        "SELECT seq FROM sqlite_sequence WHERE name = 'releases'"
    ).fetchone()
    return LedgerState(
        leaves=tuple(leaf.hex() for leaf in leaf_hashes),
        roots=tuple(root.hex() for root in prefix_roots(leaf_hashes)),
        seqs=tuple(entry["seq"] for entry in found),
        expected=expected,
        own=tuple(own),
        unsigned=tuple(unsigned),
        adopted=adopted,
        recovered_at=max(
            (n for n, entry in enumerate(found, 1) if entry["kind"] == RECOVERED), default=0
        ),
        last_number=0 if number is None else int(number[0]),
        altered_bytes=_altered_bytes(connection),
    )


def table_faults(state: LedgerState) -> list[Fault]:
    """What differs between the table and the checkpoints in the database."""
    faults = [
        Fault("edit", f"the stored bytes of entry {seq} are not those that were charged")
        for seq in state.altered_bytes
    ]
    faults += [
        Fault("edit", f"checkpoint {number} in the database is not signed by this site")
        for number in state.unsigned
    ]
    newest = state.current[-1] if state.current else None
    if newest is None:
        faults.append(Fault("drop", "the database holds no checkpoint"))
    elif newest.tree_size != state.size or not all(state.holds(c.place) for c in state.current):
        faults += _differences(state)
    elif not state.expected.keys() >= set(range(max(state.recovered_at, 1), state.size + 1)):
        faults.append(Fault("drop", "checkpoints are missing from the database"))
    return faults


def reference_faults(
    state: LedgerState, references: Sequence[Checkpoint], where: str, public_key: str
) -> list[Fault]:
    """What differs between the database and checkpoints that were kept elsewhere.

    Args:
        state: of the database.
        references: checkpoints of this ledger, in any order.
        where: they come from, for the message.
        public_key: the site's.
    """
    known = {each.place for each in state.own} | state.adopted
    newest = max((each.tree_size for each in state.current), default=0)
    worst: dict[FaultKind, Checkpoint] = {}
    for each in references:
        kind: FaultKind
        if not each.is_signed_by(public_key):
            kind = "forged"
        elif each.place in known or state.holds(each.place):
            continue
        elif each.tree_size > newest:
            kind = "truncation" if state.last_number > state.size else "rollback"
        else:
            kind = "fork"
        if kind not in worst or worst[kind].tree_size < each.tree_size:
            worst[kind] = each
    return [Fault(kind, _reference_text(kind, each, state, where)) for kind, each in worst.items()]


def _reference_text(kind: FaultKind, each: Checkpoint, state: LedgerState, where: str) -> str:
    shown = f"{where} has a checkpoint of {each.tree_size} entries of {each.time}"
    match kind:
        case "forged":
            return f"{shown} that this site did not sign"
        case "truncation":
            return f"{shown}, the database has {state.size} left of {state.last_number}"
        case "rollback":
            return f"{shown}, the database has {state.size}: it is an older copy"
        case _:
            return f"{shown} with another root than the database had at that size"


def _differences(state: LedgerState) -> list[Fault]:
    """Names how the table differs from the leaves that were sealed one by one."""
    sealed, actual = Counter(state.expected.values()), Counter(state.leaves)
    lost = sorted(p for p, leaf in state.expected.items() if leaf not in actual)
    surplus = [p for p, leaf in enumerate(state.leaves, 1) if leaf not in sealed]
    faults = list[Fault]()
    edited = [p for p in lost if p in surplus]
    if edited:
        faults.append(Fault("edit", f"{_entries(edited)} changed since they were charged"))
    gone = [p for p in lost if p not in edited]
    if gone:
        is_tail = gone == list(range(state.size + 1, max(state.expected) + 1))
        kind: FaultKind = "truncation" if is_tail else "drop"
        faults.append(Fault(kind, f"{_entries(gone)} missing from the table"))
    added = [p for p in surplus if p not in edited]
    if added:
        faults.append(Fault("insertion", f"{_entries(added)} never sealed by a checkpoint"))
    moved = [p for p, leaf in state.expected.items() if state.leaves[p - 1 : p] != (leaf,)]
    if not faults and moved:
        faults.append(Fault("reorder", f"{_entries(moved)} not where they were charged"))
    return faults or [Fault("edit", "the checkpoints in the database were altered")]


def _altered_bytes(connection: sqlite3.Connection) -> tuple[int, ...]:
    rows = connection.execute("SELECT seq, payload, payload_sha256 FROM releases ORDER BY seq")
    return tuple(
        row["seq"]
        for row in rows
        if hashlib.sha256(row["payload"]).hexdigest() != row["payload_sha256"]
    )


def _entries(positions: Sequence[int]) -> str:
    shown = ", ".join(map(str, positions[:8])) + (", …" if len(positions) > 8 else "")
    return f"entry {shown} is" if len(positions) == 1 else f"entries {shown} are"


def of_this_ledger(
    references: Sequence[Checkpoint], ledger_id: str, where: str
) -> list[Checkpoint]:
    """Those of `references` that are of this ledger.

    Raises:
        LedgerError: none is.
    """
    found = [each for each in references if each.ledger_id == ledger_id]
    if not found:
        raise LedgerError(f"{where} holds no checkpoint of this ledger {ledger_id[:16]}…")
    return found

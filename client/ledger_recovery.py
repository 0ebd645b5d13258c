"""Adopting the higher spend: what a ledger that was set back or altered must still pay for.

The history is never shortened. What copies elsewhere show and the table does not is charged
as one ``recovered`` entry, which also lists the lost history's places in the log, so that
`verify` knows them as adopted.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from client.ledger_file import LedgerOwner
from client.ledger_log import RECOVERED, ReleaseKey, append_entry, entries, last_seq, leaves, seal
from client.ledger_verify import LedgerState
from client.site_identity import SiteIdentity
from common.calibration import calibrate_noise_multiplier
from common.ledger_checkpoint import Checkpoint
from common.merkle import prefix_roots
from common.privacy_events import (
    ComposedEvent,
    GaussianEvent,
    MergedHistory,
    PrivacyEvent,
    SampledGaussianEvent,
    event_from_dict,
    merge_events,
)

Counts = Counter[tuple[float, float]]


class Recovery(NamedTuple):
    """What a recovery charged: the lost events, and over how many lost checkpoints."""

    event: ComposedEvent | None
    lost: tuple[Checkpoint, ...]


def plan_recovery(
    connection: sqlite3.Connection, state: LedgerState, copies: Sequence[Sequence[Checkpoint]]
) -> Recovery:
    """What the copies show beyond the table.

    Both histories happened, so both are paid: a lost history's events after the last place
    that it provably shares with the table are added in full, even where the table has equal
    ones. Where copies contradict each other at one size, there were several lost histories,
    and each is taken to have spent as much as the dearest.

    Args:
        connection: to the database.
        state: of the database.
        copies: signed checkpoints of this ledger, by the place where they were kept.
    """
    sources = [*copies, state.own]
    lost = {c.place: c for kept in sources for c in kept if _is_lost(state, c)}
    if not lost:
        return Recovery(None, ())
    shared = _shared_sizes(state, sources)
    events = _events(connection)
    dearest: Counts = Counter()
    for place, checkpoint in lost.items():
        before = _counts(event for event in events[: shared[place]] if event is not None)
        dearest |= _counts(checkpoint.spent_events()) - before
    histories = max(Counter(size for size, _ in lost).values())
    missing = _merged(Counter({event: histories * n for event, n in dearest.items()}))
    ordered = tuple(sorted(lost.values(), key=lambda each: each.place))
    return Recovery(ComposedEvent(missing) if missing else None, ordered)


def _is_lost(state: LedgerState, checkpoint: Checkpoint) -> bool:
    return checkpoint.place not in state.adopted and not state.holds(checkpoint.place)


def _shared_sizes(
    state: LedgerState, sources: Sequence[Sequence[Checkpoint]]
) -> dict[tuple[int, str], int]:
    """For each lost place, how many of the table's first entries are of its history too.

    A copy that held the table's log before it held a lost one shows that the lost one grew
    out of it; what it held later may be of another branch and shows nothing.
    """
    shared: dict[tuple[int, str], int] = {}
    for kept in sources:
        held, fork = 0, None
        for checkpoint in sorted(kept, key=lambda each: each.time):
            if _is_lost(state, checkpoint):
                fork = min(held, checkpoint.tree_size - 1) if fork is None else fork
                shared[checkpoint.place] = max(shared.get(checkpoint.place, 0), fork)
            elif state.holds(checkpoint.place):
                held = max(held, checkpoint.tree_size)
    return shared


def charge_recovery(
    connection: sqlite3.Connection,
    owner: LedgerOwner,
    identity: SiteIdentity,
    recovery: Recovery,
    reason: str,
) -> None:
    """Enters the recovery and signs the log as it now stands; the caller holds a transaction."""
    record = {
        "reason": reason,
        "adopted": [{"tree_size": each.tree_size, "root": each.root} for each in recovery.lost],
    }
    number = last_seq(connection) + 1
    entry = append_entry(
        connection, ReleaseKey("recovery", number, RECOVERED), recovery.event, b"", record
    )
    found = leaves(connection)
    seal(connection, owner, identity, entry, found, prefix_roots(found)[-1])


def whole_budget(max_epsilon: float, max_delta: float) -> Recovery:
    """The bound where no copy is left: all that the policy allows was spent.

    Raises:
        CalibrationError: the policy's ε is not finite.
    """
    sigma = calibrate_noise_multiplier(
        target_epsilon=max_epsilon, target_delta=max_delta, sample_rate=1.0, steps=1
    )
    return Recovery(ComposedEvent((GaussianEvent(sigma),)), ())


def _events(connection: sqlite3.Connection) -> list[PrivacyEvent | None]:
    return [
        None if entry["event"] is None else event_from_dict(entry["event"])
        for entry in entries(connection)
    ]


def _counts(history: Iterable[PrivacyEvent]) -> Counts:
    counts: Counts = Counter()
    for event in merge_events(history):
        if isinstance(event, GaussianEvent):
            counts[event.noise_multiplier, 1.0] += event.count
        else:
            counts[event.noise_multiplier, event.sample_rate] += event.steps
    return counts


def _merged(counts: Counts) -> MergedHistory:
    return merge_events(
        SampledGaussianEvent(sigma, rate, count)
        for (sigma, rate), count in counts.items()
        if count > 0
    )

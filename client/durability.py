"""What a site's ledger, keys and anchor must survive."""

from __future__ import annotations

from enum import Enum


class Durability(Enum):
    """How far a write is carried before the site goes on.

    `MACHINE` is every real site's: a charge is on the disk before its bytes may leave, so
    that it stands after a power cut. `PROCESS` is for simulated sites only, whose data and
    ledgers live as long as the experiment: what was written survives a killed process, in
    the same transactions and the same order, but nothing is flushed for the machine's crash.
    """

    MACHINE = "machine"
    PROCESS = "process"

    @property
    def is_flushed(self) -> bool:
        """Whether files are flushed to the disk."""
        return self is Durability.MACHINE

    @property
    def synchronous(self) -> str:
        """SQLite's setting of that name."""
        return "FULL" if self.is_flushed else "OFF"


def durability_of(*, is_simulated: bool) -> Durability:
    """The one place that decides it: only a site of a simulation may go without flushing."""
    return Durability.PROCESS if is_simulated else Durability.MACHINE

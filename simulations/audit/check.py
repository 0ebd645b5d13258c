"""A check of the suite: what it decides, what it needs, and what it is run under."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from simulations.audit.evidence import Evidence
from simulations.audit.finding import CheckName, Finding

FAMILY_ALPHA = 0.05
"""Probability that any statistical gate of an audit fails on a correct run."""


@dataclass(frozen=True)
class Gate:
    """One decision that is written down before anything is looked at.

    Attributes:
        name: of the finding that decides it, or the part of several findings' names before a dot.
        accepts: what is accepted, in words.
        is_statistical: whether it may fail on a correct run, and takes a share of α.
    """

    name: str
    accepts: str
    is_statistical: bool = False

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is one of those that decide it."""
        return finding.name == self.name or finding.name.startswith(f"{self.name}.")


@dataclass(frozen=True)
class Terms:
    """What a check is run under.

    Attributes:
        alpha: of each statistical gate, after Bonferroni.
        deadline: `time.monotonic` at which the budget is spent.
        seed: secret randomness of this audit; its commitment is in the audit log.
    """

    alpha: float
    deadline: float
    seed: bytes = field(repr=False)

    def seconds_left(self) -> float:
        """What is left of the budget."""
        return self.deadline - time.monotonic()

    def seed_of(self, purpose: str) -> int:
        """A seed of its own for each purpose."""
        return int.from_bytes(hashlib.sha256(self.seed + purpose.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Check:
    """One check of the suite.

    Attributes:
        name: `A1` to `A7`.
        title: for people.
        needs: what it examines.
        gates: what it decides; it returns a finding for each, and may add others that gate
            nothing.
        seconds: how long it will take on two cores, from above.
        run: a pure function from evidence to findings.
    """

    name: CheckName
    title: str
    needs: str
    gates: tuple[Gate, ...]
    seconds: Callable[[Evidence], float]
    run: Callable[[Evidence, Terms], tuple[Finding, ...]]

"""The checks of the suite: what each needs, what it will decide, and how it is run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from common.errors import ConfigError
from simulations.audit import accounting, ledgers
from simulations.audit.attacks import membership_attacks, released_run
from simulations.audit.evidence import Evidence
from simulations.audit.finding import CheckName, Finding
from simulations.audit.guarantee import own_releases
from simulations.audit.independent_epsilon import charges_of

FAMILY_ALPHA = 0.05
"""Probability that any statistical gate of an audit fails on a correct run."""


@dataclass(frozen=True)
class Gate:
    """One decision that is written down before anything is looked at.

    Attributes:
        name: of the finding that decides it.
        accepts: what is accepted, in words.
        is_statistical: whether it may fail on a correct run, and takes a share of α.
    """

    name: str
    accepts: str
    is_statistical: bool = False


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


def _accounting_seconds(evidence: Evidence) -> float:
    """PLD takes seconds for each distinct list of charges."""
    return 5.0 + 10.0 * len({charges_of(own) for own in own_releases(evidence).values()})


def _ledger_seconds(evidence: Evidence) -> float:
    return 5.0 + 0.01 * sum(len(ledger.entries) for ledger in evidence.ledgers.values())


def _attacks(evidence: Evidence, terms: Terms) -> tuple[Finding, ...]:
    return released_run.audit_attacks(
        evidence,
        alpha=terms.alpha,
        seconds_left=terms.seconds_left(),
        seed=terms.seed_of("attacks"),
    )


CHECKS: tuple[Check, ...] = (
    Check(
        name="A1",
        title="Independent accounting",
        needs="the release log",
        gates=tuple(Gate(name, accepts) for name, accepts in accounting.GATES.items()),
        seconds=_accounting_seconds,
        run=lambda evidence, _: accounting.audit_accounting(evidence),
    ),
    Check(
        name="A6",
        title="Attacks on what is released",
        needs="the released adapter, the run's data, and users that it kept out",
        gates=tuple(
            Gate(name, accepts, is_statistical=True)
            for name, accepts in membership_attacks.GATES.items()
        ),
        seconds=released_run.seconds,
        run=_attacks,
    ),
    Check(
        name="A7",
        title="Ledgers",
        needs="the ledgers' exports, the release log, the adapter",
        gates=tuple(Gate(name, accepts) for name, accepts in ledgers.GATES.items()),
        seconds=_ledger_seconds,
        run=lambda evidence, _: ledgers.audit_ledgers(evidence),
    ),
)
"""In the order in which they are run."""


def chosen_checks(names: str, checks: Sequence[Check] = CHECKS) -> tuple[Check, ...]:
    """The checks that a person named: ``A1,A7``; all where nothing is named.

    Raises:
        ConfigError: a name that is none.
    """
    wanted = [name.strip().upper() for name in names.split(",") if name.strip()]
    known = {check.name: check for check in checks}
    faults = [
        f"there is no check {name!r} to run; the checks are {', '.join(known)}"
        for name in wanted
        if name not in known
    ]
    if faults:
        raise ConfigError(faults)
    return tuple(check for check in checks if not wanted or check.name in wanted)


def alpha_each(checks: Sequence[Check]) -> float:
    """α of each statistical gate: the family's, divided among all of them (Bonferroni)."""
    gates = sum(gate.is_statistical for check in checks for gate in check.gates)
    return FAMILY_ALPHA / max(1, gates)


def run_check(check: Check, evidence: Evidence, terms: Terms) -> tuple[Finding, ...]:
    """Run one check, or say that the budget does not reach.

    Raises:
        ValueError: it decides other gates than were written down.
    """
    needed, left = check.seconds(evidence), terms.seconds_left()
    if needed > left:
        reason = (
            f"it would take about {needed:.0f} s and {max(left, 0):.0f} s of the budget are left; "
            "give a larger --budget-minutes"
        )
        return tuple(
            Finding(check=check.name, name=gate.name, view="the code", gate=True,
                    verdict="not_testable", reason=reason)
            for gate in check.gates
        )  # fmt: skip
    findings = check.run(evidence, terms)
    decided = sorted(finding.name for finding in findings if finding.gate)
    planned = sorted(gate.name for gate in check.gates)
    if decided != planned:
        raise ValueError(f"check {check.name} decided {decided}, and {planned} were written down")
    return findings

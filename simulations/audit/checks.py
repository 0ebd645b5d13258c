"""The checks of the suite: what each needs, what it will decide, and how it is run."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import ConfigError
from simulations.audit import accounting, ledgers
from simulations.audit.attacks import membership_attacks, released_run
from simulations.audit.check import FAMILY_ALPHA, Check, Gate, Terms
from simulations.audit.evidence import Evidence
from simulations.audit.finding import Finding
from simulations.audit.guarantee import own_releases
from simulations.audit.independent_epsilon import charges_of
from simulations.audit.instrumented_checks import INSTRUMENTED


def _accounting_seconds(evidence: Evidence) -> float:
    """PLD takes seconds for each distinct list of charges."""
    return 5.0 + 10.0 * len({charges_of(own) for own in own_releases(evidence).values()})


def _ledger_seconds(evidence: Evidence) -> float:
    return 5.0 + 0.01 * sum(len(ledger.entries) for ledger in evidence.ledgers.values())


def _attacks(evidence: Evidence, terms: Terms) -> tuple[Finding, ...]:
    return released_run.audit_attacks(
        evidence,
        alpha=terms.alpha,
        seconds_left=terms.seconds_left() / 2,  # the rest is for the checks that follow
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
    *INSTRUMENTED,
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
    decided = [finding for finding in findings if finding.gate]
    for planned in check.gates:
        if not any(planned.covers(finding) for finding in decided):
            raise ValueError(f"check {check.name} did not decide {planned.name}, as written down")
    for finding in decided:
        if not any(planned.covers(finding) for planned in check.gates):
            raise ValueError(f"check {check.name} decided {finding.name}: not written down")
    return findings

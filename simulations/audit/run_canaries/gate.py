"""A5 on the run: its canaries' coins are opened, and the guesses counted."""

from __future__ import annotations

import numpy as np

from common.privacy_events import PrivacyEvent, event_from_dict
from simulations.audit.accounting import no_claim
from simulations.audit.check import Check, Gate, Terms
from simulations.audit.evidence import Evidence
from simulations.audit.finding import Finding, View
from simulations.audit.guarantee import own_releases
from simulations.audit.one_run.canary_audit import CanaryEvidence, audit_canaries
from simulations.audit.run_canaries.plan import CanaryPlan, CanarySecret, coins, open_secret

VIEW: View = "the securely aggregated rounds"
GATE = Gate(
    "run_canaries",
    "guesses about the made-up users in the run itself fit the claim, by both bounds",
    is_statistical=True,
)
_FINDINGS = 2


def run_canaries(evidence: Evidence, terms: Terms) -> tuple[Finding, ...]:
    """Both one-run bounds on the canaries of an audit run.

    Raises:
        EvidenceError: secret, scores or plan are not what the run committed to.
    """
    secret, reason = opened(evidence), no_claim(evidence)
    if not reason and secret is None:
        reason = "the canaries' plan or secret is not here, or the run did not end"
    if reason or secret is None or evidence.canaries is None:
        untested = Finding(
            check="A5", name=GATE.name, view=VIEW, gate=True, verdict="not_testable", reason=reason
        )
        return (untested,)
    seen = evidence_of(evidence.canaries, secret, evidence)
    return tuple(
        each.model_copy(update={"name": each.name.replace("canaries", GATE.name)})
        for each in audit_canaries(seen, terms.alpha / _FINDINGS)
    )


def opened(evidence: Evidence) -> CanarySecret | None:
    """The canaries' secret; None where it or its plan is not here.

    Raises:
        EvidenceError: secret, scores or plan are not what the run committed to.
    """
    if evidence.canaries is None:
        return None
    committed = evidence.config.evaluation.audit_commitment
    return open_secret(evidence.path, evidence.canaries, committed)


def evidence_of(plan: CanaryPlan, secret: CanarySecret, evidence: Evidence) -> CanaryEvidence:
    """The opened canaries, against the claim of the site that spent most."""
    return CanaryEvidence(
        scores=np.asarray(secret.scores, np.float64),
        included=coins(secret.seed, plan.canaries),
        guessed_in=plan.guessed_in,
        guessed_out=plan.guessed_out,
        history=_history(evidence),
        delta=evidence.config.privacy.target_delta,
        view=VIEW,
        score=plan.score,
    )


def _history(evidence: Evidence) -> list[PrivacyEvent]:
    own = max(own_releases(evidence).values(), key=lambda records: records[-1].epsilon_prv or 0.0)
    return [event_from_dict(record.event or {}) for record in own]


RUN_CANARIES = Check(
    name="A5",
    title="Canaries of the run",
    needs="an audit run (fedrec simulate --audit), and its secret",
    gates=(GATE,),
    seconds=lambda _: 60.0,
    run=run_canaries,
)


def with_run_canaries(checks: tuple[Check, ...], evidence: Evidence) -> tuple[Check, ...]:
    """`checks`, and this one after the last A5, where the run has canaries and A5 is asked for."""
    places = [at for at, check in enumerate(checks) if check.name == "A5"]
    if not places or not evidence.config.evaluation.audit_canaries:
        return checks
    last = places[-1] + 1
    return (*checks[:last], RUN_CANARIES, *checks[last:])

"""What an audit committed to and opened afterwards: a stranger holds the one against the other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from common.errors import EvidenceError
from simulations.audit.audit_file import AuditFile
from simulations.audit.one_run.guesses import guess
from simulations.audit.run_canaries.gate import GATE
from simulations.audit.run_canaries.plan import CanaryPlan, CanarySecret, check_opening, coins
from simulations.audit.verified import Verified


def openings(path: Path, audit: AuditFile) -> list[Verified]:
    """Hold the opened seed, and the opened canaries, against what was committed to.

    Args:
        path: of the `audit.json`, for messages.
        audit: what it says.

    Raises:
        EvidenceError: the seed is another one than was committed to, or the coins and scores give
            other counts than the findings state.
    """
    if audit.opening is None:
        text = "the file is of a version that did not open its seed"
        return [Verified("seed", holds=False, text=text)]
    if hashlib.sha256(bytes.fromhex(audit.opening.seed)).hexdigest() != (
        audit.pre_registration.seed_commitment
    ):
        raise EvidenceError(
            f"tampered audit: {path} opens another seed than it committed to before it looked at "
            "anything; get it from the auditor again"
        )
    found = [Verified("seed", holds=True, text="it is the one that was committed to")]
    plan, secret = audit.pre_registration.canaries, audit.opening.canaries
    if plan is not None:
        found.append(_canaries(path, audit, plan, secret))
    return found


def _canaries(
    path: Path, audit: AuditFile, plan: CanaryPlan, secret: CanarySecret | None
) -> Verified:
    if secret is None:
        return Verified("canaries", holds=False, text="the run's canaries were not opened")
    check_opening(plan, secret, plan.commitment, path)
    included = coins(secret.seed, plan.canaries)
    seen = guess(np.asarray(secret.scores), included, plan.guessed_in, plan.guessed_out)
    for each in audit.findings:
        stated = each.statistic.get("right")
        if each.name.startswith(f"{GATE.name}.") and stated != seen.right:
            raise EvidenceError(
                f"tampered audit: {path}: {each.name} states {stated} right guesses, and the "
                f"opened coins and scores give {seen.right}; get it from the auditor again"
            )
    text = f"coins tossed again from the committed seed: {seen.right} of {seen.made} guesses right"
    return Verified("canaries", holds=True, text=text)

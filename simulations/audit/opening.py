"""What an audit committed to and opened afterwards: a stranger holds the one against the other."""

from __future__ import annotations

import hashlib
from pathlib import Path

from common.errors import EvidenceError
from simulations.audit.audit_file import AuditFile
from simulations.audit.run_canaries.gate import GATE
from simulations.audit.run_canaries.plan import CanaryPlan, OpenedCanaries, check_seed
from simulations.audit.verified import Verified


def openings(path: Path, audit: AuditFile) -> list[Verified]:
    """Hold the opened seed, and the opened canaries, against what was committed to.

    Args:
        path: of the `audit.json`, for messages.
        audit: what it says.

    Raises:
        EvidenceError: the seed is another one than was committed to, or the coins give other counts
            than the findings state.
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
    plan, opened = audit.pre_registration.canaries, audit.opening.canaries
    if plan is not None:
        found.append(_canaries(path, audit, plan, opened))
    return found


def _canaries(
    path: Path, audit: AuditFile, plan: CanaryPlan, opened: OpenedCanaries | None
) -> Verified:
    if opened is None:
        return Verified("canaries", holds=False, text="the run's canaries were not opened")
    check_seed(plan, opened.seed, plan.commitment, path)
    right, made = opened.right(plan.canaries), plan.guessed_in + plan.guessed_out
    own = [each for each in audit.findings if each.name.startswith(f"{GATE.name}.")]
    stated = [each.statistic.get("right") for each in own]
    if opened.sha256() != plan.guesses_sha256 or any(each != right for each in stated):
        raise EvidenceError(
            f"tampered audit: {path}: the opened guesses are not those that were fixed before the "
            f"coins were opened, or the findings miscount them ({right} are right); get it from "
            "the auditor again"
        )
    text = f"coins tossed again from the committed seed: {right} of {made} guesses are right"
    return Verified("canaries", holds=True, text=text)

"""An audit from start to end: write down what will be tested, test it, sign what was found."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.atomic_files import file_errors, write_json, write_text
from simulations.audit.audit_file import (
    AUDIT_FILE,
    AUDIT_PAGE,
    DOMAIN,
    AuditFile,
    ClaimRecord,
    LedgerLink,
    LogLink,
    NotRun,
    Opening,
    PlannedGate,
    PreRegistration,
    Verdict,
)
from simulations.audit.audit_log import LOG_FILE, AuditLog, LogPlace
from simulations.audit.auditor_key import public_hex, sign
from simulations.audit.check import FAMILY_ALPHA, Check, Terms
from simulations.audit.checks import alpha_each, run_check
from simulations.audit.evidence import Evidence
from simulations.audit.finding import CheckName, Finding
from simulations.audit.guarantee import guarantee
from simulations.audit.page import audit_page
from simulations.audit.provenance import provenance
from simulations.audit.reporting import claim_record, reporting_items
from simulations.audit.run_canaries.gate import RUN_CANARIES, opened
from simulations.audit.run_canaries.plan import guesses_of
from simulations.audit.same_run import config_sha256

SUITE: dict[CheckName, str] = {
    "A1": "independent accounting",
    "A2": "record and replay of the real step",
    "A3": "the sampler",
    "A4": "white-box distinguishing of steps",
    "A5": "canaries in one run",
    "A6": "attacks on what is released",
    "A7": "mutants and ledgers",
}
"""What audit.md asks for; a report names what of it was not made."""


def audit_run(
    evidence: Evidence,
    checks: Sequence[Check],
    *,
    minutes: float,
    out: Path,
    key: Ed25519PrivateKey,
    notify: Callable[[str], None] = lambda _: None,
) -> AuditFile:
    """Audit a run, and write `audit.json`, `audit.html` and the audit log into `out`.

    Args:
        evidence: of the run.
        checks: what is tried, in order.
        minutes: budget; a check that would not fit is not testable, and says so.
        out: a folder, the run's own or another.
        key: the auditor's.
        notify: hears of each check.

    Returns:
        What was found, signed.

    Raises:
        EvidenceError: an earlier audit's log in `out` was changed.
        RunFolderError: the file system refuses.
    """
    with file_errors("make", out):
        out.mkdir(parents=True, exist_ok=True)
    log, started = AuditLog(out / LOG_FILE, key), time.monotonic()
    terms = Terms(alpha_each(checks), started + 60 * minutes, secrets.token_bytes(32))
    plan = _plan(evidence, checks, terms, minutes)
    registered = log.append("pre_registration", _registered(evidence, plan))
    findings: list[Finding] = []
    for check in checks:
        notify(f"{check.name} {check.title}")
        found = run_check(check, evidence, terms)
        findings += found
        for each in found:
            log.append("finding", each.model_dump(mode="json"))
    opening = _opening(evidence, checks, terms)
    log.append("opening", opening.model_dump(mode="json"))
    claim = claim_record(evidence)
    audit = AuditFile(
        run=evidence.path.resolve().name,
        run_id=evidence.run,
        config_sha256=config_sha256(evidence.path / "config.toml"),
        adapter_sha256=evidence.adapter.sha256 if evidence.adapter else None,
        verdict=_verdict(claim, findings),
        audited_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 3),
        claim=claim,
        guarantee=guarantee(evidence) if claim.status == "private" else None,
        reporting=reporting_items(evidence, claim),
        findings=tuple(findings),
        not_run=_not_run(checks),
        opening=opening,
        pre_registration=plan,
        code=provenance(),
        files=dict(evidence.sha256),
        ledgers=_links(evidence),
        audit_log=_log_link(log.place, registered),
        public_key=public_hex(key),
    )
    fields = audit.model_dump(mode="json", exclude={"signature"})
    signed = audit.model_copy(update={"signature": sign(key, DOMAIN, fields)})
    _write(out, signed, log)
    return signed


def _plan(
    evidence: Evidence, checks: Sequence[Check], terms: Terms, minutes: float
) -> PreRegistration:
    return PreRegistration(
        gates=tuple(
            PlannedGate(
                check=check.name,
                name=gate.name,
                accepts=gate.accepts,
                alpha=terms.alpha if gate.is_statistical else None,
            )
            for check in checks
            for gate in check.gates
        ),
        family_alpha=FAMILY_ALPHA,
        budget_minutes=minutes,
        seed_commitment=hashlib.sha256(terms.seed).hexdigest(),
        canaries=evidence.canaries,
    )


def _opening(evidence: Evidence, checks: Sequence[Check], terms: Terms) -> Opening:
    """The audit's own seed, and the canaries' secret where a check looked at it."""
    plan, secret = evidence.canaries, opened(evidence) if RUN_CANARIES in checks else None
    guesses = guesses_of(plan, secret) if plan and secret else None
    return Opening(seed=terms.seed.hex(), canaries=guesses)


def _registered(evidence: Evidence, plan: PreRegistration) -> dict[str, object]:
    """What stands in the log before anything is looked at."""
    return {
        "run": evidence.run,
        "plan": plan.model_dump(mode="json"),
        "code": provenance().model_dump(mode="json"),
        "files": dict(evidence.sha256),
        "adapter_sha256": evidence.adapter.sha256 if evidence.adapter else None,
        "delta": evidence.config.privacy.target_delta,
        "ledgers": {site: each.checkpoint.root for site, each in evidence.ledgers.items()},
    }


def _verdict(claim: ClaimRecord, findings: Sequence[Finding]) -> Verdict:
    if any(finding.refutes for finding in findings):
        return "refuted"
    if claim.status != "private":
        return "no_claim"
    is_tested = any(finding.gate and finding.verdict == "pass" for finding in findings)
    return "not_refuted" if is_tested else "not_tested"


def _not_run(checks: Sequence[Check]) -> tuple[NotRun, ...]:
    made = {check.name for check in checks}
    return tuple(
        NotRun(check=name, reason=f"{title}: not part of this audit")
        for name, title in SUITE.items()
        if name not in made
    )


def _links(evidence: Evidence) -> tuple[LedgerLink, ...]:
    return tuple(
        LedgerLink(site=site, checkpoint=ledger.checkpoint.model_dump(mode="json"))
        for site, ledger in evidence.ledgers.items()
    )


def _log_link(place: LogPlace, registered: LogPlace) -> LogLink:
    return LogLink(
        file=LOG_FILE,
        tree_size=place.tree_size,
        root=place.root,
        pre_registration=registered.tree_size,
    )


def _write(out: Path, audit: AuditFile, log: AuditLog) -> None:
    content = audit.model_dump(mode="json")
    page = audit_page(content)
    write_json(out / AUDIT_FILE, content)
    write_text(out / AUDIT_PAGE, page)
    log.append(
        "report",
        {
            AUDIT_FILE: hashlib.sha256((out / AUDIT_FILE).read_bytes()).hexdigest(),
            AUDIT_PAGE: hashlib.sha256(page.encode("utf-8")).hexdigest(),
        },
    )

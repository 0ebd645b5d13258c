"""The format of `audit.json`: everything that an audit says, signed as a whole."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from simulations.audit.finding import CheckName, Finding
from simulations.audit.guarantee import Guarantee
from simulations.audit.provenance import Provenance
from simulations.audit.run_canaries.plan import CanaryPlan, OpenedCanaries
from simulations.report.interval_record import Record

AUDIT_FILE, AUDIT_PAGE = "audit.json", "audit.html"
DOMAIN = b"fedrec audit 1\n"
Sha256 = str
Verdict = Literal["refuted", "not_refuted", "not_tested", "no_claim"]


class ClaimRecord(Record):
    """The claim that was examined, as the run states it."""

    status: Literal["private", "void", "none", "nothing_released"]
    sentence: str
    epsilon: float | None
    delta: float
    unit: str
    relation: str
    sampling: str
    accountant: str
    trusted: str
    covered: tuple[str, ...]
    not_covered: tuple[str, ...]


class PlannedGate(Record):
    """A decision that was written down before results were opened; α is null where exact."""

    check: CheckName
    name: str
    accepts: str
    alpha: float | None


class PreRegistration(Record):
    """What would be tested, written to the audit log first.

    Attributes:
        gates: every decision.
        family_alpha: of all statistical gates together.
        correction: how it is divided.
        budget_minutes: time limit.
        seed_commitment: SHA-256 of the audit's secret randomness.
        canaries: of an audit run: how many, how they are scored and guessed, and the hashes of
            what is opened after this.
    """

    gates: tuple[PlannedGate, ...]
    family_alpha: float
    correction: Literal["Bonferroni"] = "Bonferroni"
    budget_minutes: float
    seed_commitment: Sha256
    canaries: CanaryPlan | None = None


class Opening(Record):
    """What was secret when the audit began, for whoever wants to draw again.

    Attributes:
        seed: hex; its SHA-256 is the `seed_commitment`, and the draws of A3 to A5 follow from it.
        canaries: seed of an audit run's canaries, and the guesses, if they were opened.
    """

    seed: Sha256
    canaries: OpenedCanaries | None = None


class NotRun(Record):
    """A check of the suite that this audit did not make."""

    check: CheckName
    reason: str


class ReportingItem(Record):
    """One of the things that a statement of privacy must say; `level` is the pyramid's."""

    level: Literal["guarantee", "undermine", "data"]
    item: str
    text: str


class LedgerLink(Record):
    """The checkpoint that binds a site's ledger into the audit."""

    site: str
    checkpoint: dict[str, Any]


class LogLink(Record):
    """The audit log as it stood when the report was signed."""

    file: str
    tree_size: int
    root: Sha256
    pre_registration: int = Field(ge=1)


class AuditFile(Record):
    """`audit.json`.

    Attributes:
        run: the run's folder name; `run_id` its own name, unique for ever.
        verdict: `refuted` where any gate failed; `not_tested` where none could be decided;
            `no_claim` where there was nothing to refute.
        audited_at: UTC.
        seconds: what the checks took.
        opening: the secrets of the audit, which its log holds after the findings; None in files of
            earlier versions.
        findings: one per gate, and what else was found.
        files: SHA-256 of every file examined, by its path in the run's folder.
        public_key: the auditor's; signature: over the canonical JSON of all other fields.
    """

    schema_version: Literal[1] = 1
    sentence: Literal["Lower bounds can refute the claim; they cannot prove it."] = (
        "Lower bounds can refute the claim; they cannot prove it."
    )
    run: str
    run_id: str | None
    config_sha256: Sha256
    adapter_sha256: Sha256 | None
    verdict: Verdict
    audited_at: str
    seconds: float
    claim: ClaimRecord
    guarantee: Guarantee | None
    reporting: tuple[ReportingItem, ...]
    findings: tuple[Finding, ...]
    not_run: tuple[NotRun, ...]
    opening: Opening | None = None
    pre_registration: PreRegistration
    code: Provenance
    files: dict[str, Sha256]
    ledgers: tuple[LedgerLink, ...]
    audit_log: LogLink
    public_key: str
    signature: str = ""

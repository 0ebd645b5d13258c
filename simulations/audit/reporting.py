"""What a statement of privacy has to say, by the levels of NIST SP 800-226's pyramid.

The items are those of Ponomareva et al. 2023, section 5.3.3.
"""

from __future__ import annotations

from common.unit_texts import UNIT_WORDS
from simulations.audit.audit_file import ClaimRecord, ReportingItem
from simulations.audit.evidence import Evidence
from simulations.report.claim import make_claim
from simulations.report.privacy_totals import charged, site_totals

_OUTPUT = {
    "none": "each site's exact update of every round",
    "local": "each site's noised update of every round: all iterates, not the last adapter alone",
    "distributed": "the noised sum over all sites of every round: all iterates, not the last "
    "adapter alone; single updates stay masked",
    "central": "the noised sum of every round; the server also sees each site's exact update",
}
_ASSUMES = (
    "Noise is Gaussian with the stated σ relative to a unit's norm bound, independent in every "
    "step and site; samples are Poisson and secret; the code does what the ledgers say"
)
_HOLDS = (
    "whether they hold for this code is what checks A2 to A5 and the mutants of A7 try to refute"
)


def claim_record(evidence: Evidence) -> ClaimRecord:
    """The claim that the run's own records support."""
    files = evidence.files
    claim = make_claim(files, site_totals(files.releases, files.config.privacy.target_delta))
    names = ClaimRecord.model_fields
    return ClaimRecord.model_validate(
        {name: value for name, value in vars(claim).items() if name in names}
    )


def reporting_items(evidence: Evidence, claim: ClaimRecord) -> tuple[ReportingItem, ...]:
    """Every item of the report that is words, by level."""
    config = evidence.config
    mode, words = config.privacy.mode, UNIT_WORDS[config.privacy.unit]
    kinds = sorted({record.kind for record in charged(evidence.releases)})
    guarantee = {
        "formal statement": claim.sentence,
        "unit": f"{words.one}; {words.note}" if words.note else words.one,
        "neighbouring relation": claim.relation,
        "accountant": f"{claim.accountant}. {_ASSUMES}: {_HOLDS}",
        "mechanism's output": _OUTPUT[mode],
    }
    undermine = {
        "setting and trust": f"privacy.mode {mode}; trusted: {claim.trusted}",
        "sampling assumption": claim.sampling,
        "sites of a round": _sites_text(evidence),
        "noise source": "seeded: NO GUARANTEE"
        if config.privacy.insecure_seeded_noise
        else "each site's cryptographic source, by the run's word; A2 and A4 examine the code",
    }
    data = {
        "data accesses covered": f"one run, {len(evidence.files.rounds)} recorded rounds, releases "
        f"of kind {', '.join(kinds) or 'none'}; ledgers count earlier runs at the same sites, too",
        "tuning": "not covered: settings chosen in earlier runs on non-private validation",
        "persons": words.persons,
        "data": f"{config.data.dataset}, {config.data.sites} sites, split {config.data.split}",
    }
    levels = (("guarantee", guarantee), ("undermine", undermine), ("data", data))
    return tuple(
        ReportingItem.model_validate({"level": level, "item": item, "text": text})
        for level, items in levels
        for item, text in items.items()
    )


def _sites_text(evidence: Evidence) -> str:
    federation = evidence.config.federation
    drawn = federation.sites_per_round
    if not drawn:
        return "all sites in every round: accounted at a site rate of 1"
    return (
        f"{drawn} drawn by the server in each round, not in secret: accounted at a site rate of 1"
    )

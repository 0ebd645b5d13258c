"""The claim of a run in one sentence, and everything that a statement of ε must name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from common.config import RunConfig
from common.context_names import context_names
from common.release_record import ReleaseRecord
from common.trusted_parties import trusted_text
from common.unit_texts import CONTEXT_INPUTS, CONTEXT_OF_EXAMPLES, UNIT_WORDS
from simulations.report.number_text import delta_text, epsilon_text
from simulations.report.privacy_totals import SiteTotals, charged, is_noised
from simulations.report.run_files import RunFiles

ClaimStatus = Literal["private", "void", "none", "nothing_released"]

_FULL_KINDS = ("popularity", "cooccurrence", "metrics")


@dataclass(frozen=True)
class Claim:
    """What a run promises each unit, in words and in numbers.

    Attributes:
        status: `private`; `void` where the noise was seeded, part was not noised, or a release
            was charged for another unit; `none` in mode none; `nothing_released` where no
            site released anything.
        sentence: the claim in one sentence.
        epsilon: the highest total of any site (PRV, its ledger's life); null without a claim.
        delta: δ.
        sampling: the sampling assumption.
        accountant: how ε was computed.
        trusted: who must be trusted.
        covered, not_covered: lines.
        unit: the privacy unit.
        relation: the neighbouring relation.
        unit_note: one sentence on what the unit does not give; empty for a user.
    """

    status: ClaimStatus
    sentence: str
    epsilon: float | None
    delta: float
    sampling: str
    accountant: str
    trusted: str
    covered: tuple[str, ...]
    not_covered: tuple[str, ...]
    unit: str
    relation: str
    unit_note: str

    def epsilon_phrase(self) -> str:
        """Return ε with all that it means nothing without."""
        return (
            f"ε = {epsilon_text(self.epsilon)} at δ = {delta_text(self.delta)} "
            f"(unit: {self.unit}; relation: {self.relation}; sampling: {self.sampling}; "
            f"accountant: {self.accountant})"
        )


def make_claim(run: RunFiles, totals: Sequence[SiteTotals]) -> Claim:
    """State what the records of a run support, and no more.

    Args:
        run: its records.
        totals: of every site that released something.

    Returns:
        The claim.
    """
    status, epsilon = _status(run, totals), _highest(totals)
    words = UNIT_WORDS[run.config.privacy.unit]
    claim = Claim(
        status=status,
        sentence="",
        epsilon=epsilon if status == "private" else None,
        delta=run.config.privacy.target_delta,
        sampling=sampling_text(run.releases, words.many),
        accountant="PRV; RDP and PLD beside it",
        trusted=trusted_text(run.config),
        covered=_covered(run.releases, run.config),
        not_covered=_not_covered(run.config),
        unit=words.unit,
        relation=words.relation,
        unit_note=words.note,
    )
    return replace(claim, sentence=_sentence(claim, _void_reason(run)))


def sampling_text(releases: Sequence[ReleaseRecord], units: str) -> str:
    """Describe how the units (in the plural) were chosen in the noised releases."""
    noised = [record for record in charged(releases) if is_noised(record)]
    rates = sorted({r.sample_rate for r in noised if r.sampling == "poisson"})
    parts = []
    if any(rate < 1 for rate in rates):
        shown = ", ".join(f"{rate:.4g}" for rate in rates)
        parts.append(f"Poisson sampling of {units} at rate {shown} per step, kept secret")
    if any(rate >= 1 for rate in rates) or any(r.sampling == "full" for r in noised):
        full = {r.kind for r in noised if r.sampling == "full"}
        named = " and ".join(kind for kind in _FULL_KINDS if kind in full)
        what = named if any(rate < 1 for rate in rates) else "every release"
        parts.append(f"all {units} take part in {what}, no amplification")
    return "; ".join(parts) or "none"


def is_seeded(run: RunFiles) -> bool:
    """Whether the run, or any of its releases, was marked as having seeded noise."""
    marks = [record.insecure_seeded_noise for record in run.releases]
    return run.config.privacy.insecure_seeded_noise or any(marks)


def has_other_unit(run: RunFiles) -> bool:
    """Whether a release was charged for another unit than the run's: no total covers both."""
    return any(record.unit != run.config.privacy.unit for record in run.releases)


def _status(run: RunFiles, totals: Sequence[SiteTotals]) -> ClaimStatus:
    if run.config.privacy.mode == "none":
        return "none"
    kept = charged(run.releases)
    if is_seeded(run) or has_other_unit(run):
        return "void"
    if any(math.isinf(site.total.prv) for site in totals):
        return "void"
    return "private" if kept else "nothing_released"


def _highest(totals: Sequence[SiteTotals]) -> float | None:
    """The highest total of any site; a recorded total also counts the ledger's past."""
    spent = [max(site.recorded_prv or 0.0, site.total.prv) for site in totals]
    return max(spent, default=None)


def _void_reason(run: RunFiles) -> str:
    if is_seeded(run):
        return "its noise came from a seed, and whoever knows the seed can remove it"
    if has_other_unit(run):
        return f"a release was charged for another unit than {run.config.privacy.unit}"
    return "something left a site without noise"


def _sentence(claim: Claim, void_reason: str) -> str:
    words = UNIT_WORDS[claim.unit]
    if claim.status == "none":
        return (
            "This run has no privacy guarantee: privacy.mode is none, exact updates left the "
            f"sites, and ε is unbounded for every {words.unit}."
        )
    if claim.status == "void":
        return f"This run has no privacy guarantee: {void_reason}."
    if claim.status == "nothing_released":
        return "No site released anything in this run, so it cost nobody any privacy."
    return (
        f"For every {words.unit}, the distribution of everything that left {words.site} over the "
        f"whole life of its ledger changes by at most {claim.epsilon_phrase()}. "
        f"Trusted: {claim.trusted}. {words.note}".rstrip()
    )


def _covered(releases: Sequence[ReleaseRecord], config: RunConfig) -> tuple[str, ...]:
    inputs = " and ".join(CONTEXT_INPUTS[name] for name in context_names(config.model.context))
    trained_on = f"; {inputs} were among their inputs (model.context)" if inputs else ""
    kinds = {record.kind for record in charged(releases)}
    lines = {
        "popularity": "the popularity of items, released once by each site",
        "cooccurrence": "which items occur together in histories, released once by each site",
        "update": "every adapter update that a site released, over all rounds and steps"
        + trained_on,
        "metrics": _metrics_text(releases),
    }
    covered = [text for kind, text in lines.items() if kind in kinds]
    derived = "everything computed from these releases: the adapter, and all that is done with it"
    return (*covered, derived) if covered else ()


def _metrics_text(releases: Sequence[ReleaseRecord]) -> str:
    """Which metrics were released with noise, of which stages."""
    names = [
        name for record in charged(releases) if record.kind == "metrics" for name in record.tensors
    ]
    stages = [stage for stage in ("validation", "test") if f"metrics.{stage}" in names]
    return (
        f"{' and '.join(stages)} metrics that sites released with noise: their number of users and "
        "sums of HR@10, HR@20, NDCG@10, NDCG@20 and MRR, each release charged"
    )


def _not_covered(config: RunConfig) -> tuple[str, ...]:
    delta = delta_text(config.privacy.target_delta)
    grown = f"by group privacy ε grows to at most k·ε, and δ = {delta} to at most k·e^((k−1)·ε)·δ"
    context = [CONTEXT_OF_EXAMPLES[name] for name in context_names(config.model.context)]
    groups = {
        "user": (f"a person who is a user at k sites: {grown}",),
        "example": (
            f"a user with k examples: {grown}",
            "an interaction as it appears in the histories of other examples",
            *context,
        ),
    }
    return (
        "tuning: settings that were chosen in earlier runs by looking at non-private validation",
        "exact validation and test metrics, group figures and this report: they exist in the lab "
        "only, from simulated sites; group statistics never leave a site",
        *groups[config.privacy.unit],
        "public facts: the catalogue with its texts, the number of sites, their declared sizes, "
        "and which sites took part in which round",
    )

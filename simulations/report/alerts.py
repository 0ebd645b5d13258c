"""What a reader must not miss, at the top of the report: first what breaks a promise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from simulations.report.claim import Claim, has_other_unit, is_seeded
from simulations.report.number_text import epsilon_text
from simulations.report.privacy_totals import AGREEMENT, SiteTotals
from simulations.report.run_files import RunFiles

_STATUS_TEXT = {
    "refused": "refused",
    "error": "failed",
    "non_finite": "sent a non-finite update, which was left out,",
}


@dataclass(frozen=True)
class Alert:
    """A line that changes how a run's figures may be read.

    Attributes:
        level: `grave` where a promise, a result or a part of the run broke; `note` where
            the figures are sound, and are not what they may be taken for.
        text: one line.
    """

    level: Literal["grave", "note"]
    text: str


def alerts(run: RunFiles, claim: Claim, totals: Sequence[SiteTotals]) -> list[Alert]:
    """Collect everything about a run that changes how its figures may be read.

    Args:
        run: its records.
        claim: from `make_claim`.
        totals: of every site that released something.

    Returns:
        The gravest first.
    """
    grave = [
        *_canaries(run),
        *_guarantee(run, claim),
        *_accounting(run, claim, totals),
        *_sites(run),
        *_rows(run),
        *(run.metrics.warnings if run.metrics else ()),
    ]
    return [
        *(Alert("grave", line) for line in grave),
        *(Alert("note", line) for line in _lab_only(run)),
    ]


def _canaries(run: RunFiles) -> Iterator[str]:
    canaries = run.config.evaluation.audit_canaries
    if canaries:
        yield (
            f"Audit run: about half of {canaries} made-up users were woven into the sites, to be "
            "guessed by an audit. They are in the model, and not in any table of results; do not "
            "use the model, and do not take its figures for those of a run without them."
        )


def _guarantee(run: RunFiles, claim: Claim) -> Iterator[str]:
    if claim.status == "none":
        yield "No privacy guarantee: privacy.mode is none. This run is a baseline only."
    if is_seeded(run):
        yield (
            "insecure_seeded_noise: the noise came from a seed. Whoever knows the seed can remove "
            "it, so no guarantee holds; for tests only."
        )
    elif has_other_unit(run):
        yield (
            f"A release was charged for another unit than the run's, {claim.unit}: no total covers "
            "both, so no guarantee holds."
        )
    elif claim.status == "void":
        yield "A site released something without noise in a private mode: no guarantee holds."
    if claim.status == "private" and claim.unit_note:
        yield claim.unit_note


def _accounting(run: RunFiles, claim: Claim, totals: Sequence[SiteTotals]) -> Iterator[str]:
    if claim.status != "private":
        return
    target = run.config.privacy.target_epsilon
    if claim.epsilon is not None and claim.epsilon > target + AGREEMENT:
        yield (
            f"The ledger's total is {claim.epsilon_phrase()}, over this run's target of "
            f"{target:g}: the ledger may hold earlier releases."
        )
    for site in totals:
        if (site.recorded_prv or 0.0) < site.total.pld - AGREEMENT:
            yield (
                f"{site.site} recorded a total ε of {epsilon_text(site.recorded_prv)}, less than "
                f"the {epsilon_text(site.total.pld)} that PLD recomputes from its releases (unit "
                f"{claim.unit}, δ as above): do not trust the recorded figure."
            )


def _sites(run: RunFiles) -> Iterator[str]:
    for record in run.rounds:
        if record.fault is not None:
            yield f"Round {record.server_round} gave no new adapter: {record.fault}"
    seen: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for record in run.rounds:
        for site in record.sites:
            if site.status != "ok":
                key = (site.site, site.status, site.reason or "no reason given")
                seen[key].append(record.server_round)
    for (name, status, reason), rounds in sorted(seen.items()):
        where = f"round {rounds[0]}" if len(rounds) == 1 else f"{len(rounds)} rounds"
        yield f"{name} {_STATUS_TEXT[status]} in {where}: {reason}"


def _rows(run: RunFiles) -> Iterator[str]:
    metrics = run.metrics
    if metrics is None and not run.config.evaluation.lab:
        yield (
            "No evaluation in the lab: evaluation.lab is false, so that the data need not be "
            "loaded at once. There is no table of results and no baseline beside this run."
        )
        return
    if metrics is None:
        yield "There is no metrics.json: the run ended before its evaluation."
        return
    for row in metrics.rows:
        if row.failed_against:
            yield f"Failed row: {row.name} is under {' and under '.join(row.failed_against)}."
        for comparison in row.comparisons:
            low = comparison.ndcg_10.low
            if comparison.other_kind == "text_floor" and (low is None or low <= 0):
                yield (
                    f"What {row.name} learned privately is not measurable: its NDCG@10 is not "
                    f"above {comparison.other} by more than chance."
                )


def _lab_only(run: RunFiles) -> Iterator[str]:
    exact = any(record.mechanism == "exact_lab_only" for record in run.releases)
    if (
        exact
        or run.metrics is not None
        or any(r.validation and r.metrics == "exact" for r in run.rounds)
    ):
        yield (
            "Lab only: the metrics of this report are exact and not covered by ε. They exist "
            "because the sites are simulated; outside a simulation they would be releases."
        )

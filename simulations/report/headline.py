"""The page's first sentence: what was gained, what it cost in privacy, who has to be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from common.unit_texts import UNIT_WORDS
from simulations.report.claim import Claim
from simulations.report.metrics_file import Comparison, IntervalRecord, MetricsFile, MetricsRow
from simulations.report.number_text import delta_text, epsilon_text, percent_text


@dataclass(frozen=True)
class Headline:
    """The run in one sentence, and its three parts on their own.

    Attributes:
        sentence: gain, cost and trust.
        gained: the model's HR@10 as a percentage; empty without an evaluation.
        gained_note: of whom, how sure, and against what.
        cost: ε, or that there is no guarantee.
        cost_note: what ε refers to.
        trusted: who has to be trusted.
    """

    sentence: str
    gained: str
    gained_note: str
    cost: str
    cost_note: str
    trusted: str


def make_headline(claim: Claim, metrics: MetricsFile | None) -> Headline:
    """Say a run's outcome in words for somebody who reads one page.

    Args:
        claim: from `make_claim`.
        metrics: the lab's evaluation; none where there was no evaluation.

    Returns:
        The headline; it promises nothing that `claim` does not.
    """
    cost, cost_note = _cost(claim)
    if metrics is None:
        gained, gained_note = "", "no evaluation: what was gained is not known"
        told = "What this run gained is not known, as it has no evaluation"
    else:
        model = metrics.rows[0]
        gained = percent_text(model.hr_10.mean)
        against = _against(model, metrics)
        gained_note = (
            f"of {model.users} users get their held-out item among the first ten "
            f"(HR@10, {metrics.stage}{_surely(model.hr_10)}), {against}"
        )
        told = f"For {gained} of users the held-out item is among the first ten, {against}"
    return Headline(
        sentence=f"{told}; {_cost_phrase(claim)}. To be trusted: {claim.trusted}.",
        gained=gained,
        gained_note=gained_note,
        cost=cost,
        cost_note=cost_note,
        trusted=claim.trusted,
    )


def _surely(interval: IntervalRecord) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f", 95% interval {percent_text(interval.low)} to {percent_text(interval.high)}"


def _against(model: MetricsRow, metrics: MetricsFile) -> str:
    """The model beside what it has to beat: its private floors, or the best pooled baseline."""
    means = {row.name: row.hr_10.mean for row in metrics.rows}
    if model.failed_against:
        names = " and ".join(f"{n} ({percent_text(means[n])})" for n in model.failed_against)
        return f"which FAILS: it is under {names}, which learn nothing but popularity"
    floor = _hardest_floor(model)
    if floor is not None:
        shown = (
            f"{percent_text(means[floor.other])} for {floor.other}, which learns popularity alone"
        )
        if _is_above(floor.hr_10) and _is_above(floor.ndcg_10):
            return f"against {shown}"
        return f"which is not measurably more than the {shown}"
    baselines = [row for row in metrics.rows if row.kind == "baseline"]
    if not baselines:
        return "with no baseline beside it"
    best = max(baselines, key=lambda row: row.hr_10.mean)
    return f"against {percent_text(best.hr_10.mean)} for {best.name} on pooled data"


def _hardest_floor(model: MetricsRow) -> Comparison | None:
    """The floor that the model is least above."""
    return min(model.comparisons, key=lambda found: found.ndcg_10.mean, default=None)


def _is_above(difference: IntervalRecord) -> bool:
    return difference.low is not None and difference.low > 0


def _cost(claim: Claim) -> tuple[str, str]:
    if claim.status == "private":
        return (
            f"ε = {epsilon_text(claim.epsilon)}",
            f"at most, for each {claim.unit}, over all releases of all rounds; "
            f"δ = {delta_text(claim.delta)}; {claim.relation}",
        )
    if claim.status == "nothing_released":
        return "nothing", "no site released anything"
    return "no guarantee", claim.sentence


def _cost_phrase(claim: Claim) -> str:
    if claim.status == "private":
        unit = UNIT_WORDS[claim.unit].unit
        return (
            f"it cost each {unit} at most ε = {epsilon_text(claim.epsilon)} "
            f"(δ = {delta_text(claim.delta)}, all releases together)"
        )
    if claim.status == "nothing_released":
        return "no site released anything, so it cost nobody any privacy"
    if claim.status == "none":
        return "nobody's privacy is protected, as exact updates left the sites (ε = ∞)"
    return "it carries no privacy guarantee at all"

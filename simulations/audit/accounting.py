"""A1: the recorded ε against `dp_accounting`, from the release log alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from common.privacy_events import DistributedGaussianEvent, event_from_dict
from common.recorded_epsilon import finite
from common.release_record import ReleaseRecord
from simulations.audit.evidence import Evidence
from simulations.audit.finding import Finding
from simulations.audit.guarantee import guarantee, own_releases
from simulations.audit.independent_epsilon import charges_of, pld_epsilon
from simulations.report.privacy_totals import is_noised

AGREEMENT = 0.02  # |PRV − PLD| that two correct accountants may show
PRV_REACH = 100.0  # beyond this ε an analytic bound stands in for PRV (`common.accounting`)
_SLACK = 1e-3  # PLD's pessimistic rounding
GATES = {
    "accounting.agreement": f"|recorded PRV − PLD| is at most {AGREEMENT}",
    "accounting.rdp": "recorded RDP is at least PLD",
    "accounting.recorded": "recorded ε is at least PLD, for the sampler and relation really used",
    "accounting.event": "σ, q and steps of each release are those of its charged event",
}
EXACT = "exact: it finds every recorded total that is too low by more than 0.001"


def audit_accounting(evidence: Evidence) -> tuple[Finding, ...]:
    """Recompute every site's ε and hold the recorded totals against it.

    Args:
        evidence: of the run.

    Returns:
        One finding per gate; all not testable where the run makes no claim.
    """
    reason = no_claim(evidence)
    if reason:
        return tuple(_finding(name, "not_testable", reason) for name in GATES)
    by_site = own_releases(evidence)
    bare = [r for own in by_site.values() for r in own if not is_noised(r)]
    if bare:
        text = (
            f"{len(bare)} releases left without noise although privacy.mode is "
            f"{evidence.config.privacy.mode}; the first is {bare[0].kind} of {bare[0].site} in "
            f"round {bare[0].server_round}"
        )
        return tuple(_finding(name, "fail", text) for name in GATES)
    return (*_totals(evidence, by_site), _events(by_site))


def no_claim(evidence: Evidence) -> str:
    """Why there is no claim to be refuted; empty where there is one."""
    if not evidence.config.is_private:
        return "privacy.mode is none: the run claims nothing, so nothing can be refuted"
    if evidence.config.privacy.insecure_seeded_noise:
        return "the run is marked insecure_seeded_noise: it claims nothing"
    if not own_releases(evidence):
        return "no site released anything"
    return ""


def _totals(evidence: Evidence, by_site: dict[str, list[ReleaseRecord]]) -> tuple[Finding, ...]:
    delta = evidence.config.privacy.target_delta
    gaps, below_rdp, below = [], [], []
    for site, own in by_site.items():
        last, truth = own[-1], pld_epsilon(charges_of(own), delta)
        prv = math.nan if last.epsilon_prv is None else last.epsilon_prv
        rdp = math.nan if last.epsilon_rdp is None else last.epsilon_rdp
        is_first_run = len(evidence.ledgers[site].releases) <= len(own)
        if is_first_run and truth <= PRV_REACH:
            gaps.append((abs(prv - truth), site))
        below_rdp.append((truth - rdp, site))
        below.append((truth - prv, site))
    statistic = _shown(evidence)
    return (
        _agreement(gaps, statistic),
        _not_below("accounting.rdp", "RDP", below_rdp, statistic),
        _not_below("accounting.recorded", "PRV", below, statistic),
    )


def _agreement(gaps: Sequence[tuple[float, str]], statistic: dict[str, float | None]) -> Finding:
    if not gaps:
        reason = (
            "the ledgers hold earlier runs, or ε is beyond the reach of PRV: a recorded total is "
            "compared from below alone (accounting.recorded)"
        )
        return _finding("accounting.agreement", "not_testable", reason)
    gap, site = max(gaps, key=_worst)
    within = gap <= AGREEMENT  # NaN, a total that is missing, is not
    relation = "within" if within else "NOT within"
    reason = (
        f"recorded PRV and independent PLD differ by at most {gap:.4f} ({site}), {relation} "
        f"{AGREEMENT}, over {len(gaps)} sites"
    )
    found = statistic | {"largest_difference": gap} if not math.isnan(gap) else statistic
    return _finding("accounting.agreement", "pass" if within else "fail", reason, found)


def _not_below(
    name: str,
    accountant: str,
    below: Sequence[tuple[float, str]],
    statistic: dict[str, float | None],
) -> Finding:
    most, site = max(below, key=_worst)
    if math.isnan(most):
        return _finding(name, "fail", f"{site} recorded no {accountant} total after its releases")
    holds = most <= _SLACK
    reason = (
        f"every recorded {accountant} total is at least the independent PLD"
        if holds
        else f"{site} recorded {accountant} {most:.4f} below what its releases cost by PLD"
    )
    return _finding(
        name, "pass" if holds else "fail", reason, statistic | {"shortfall": finite(most)}
    )


def _events(by_site: dict[str, list[ReleaseRecord]]) -> Finding:
    """The numbers that PLD starts from are those of the event that was charged."""
    for own in by_site.values():
        for record in own:
            fault = _event_fault(record)
            if fault:
                where = f"{record.kind} of {record.site} in round {record.server_round}"
                return _finding("accounting.event", "fail", f"{where}: {fault}")
    reason = "σ, q and steps of every release are those of the event that was charged"
    return _finding("accounting.event", "pass", reason)


def _event_fault(record: ReleaseRecord) -> str:
    event = event_from_dict(record.event or {})
    sigma = getattr(event, "noise_multiplier", math.nan)
    rate, steps = getattr(event, "sample_rate", 1.0), getattr(event, "steps", 1)
    if isinstance(event, DistributedGaussianEvent):
        honest = math.sqrt(event.min_honest) * event.share_std / event.sensitivity
        if record.noise_multiplier > honest:
            return f"σ={record.noise_multiplier:g} is more than its shares add up to, {honest:g}"
    stated = (record.noise_multiplier, record.sample_rate, record.steps)
    if stated != (sigma, rate, steps):
        return f"states (σ, q, steps) = {stated}, and was charged for {(sigma, rate, steps)}"
    return ""


def _shown(evidence: Evidence) -> dict[str, float | None]:
    found = guarantee(evidence)
    if found is None:
        return {}
    return {line.name: line.epsilon for line in (*found.lines, *found.beside)}


def _worst(found: tuple[float, str]) -> float:
    return math.inf if math.isnan(found[0]) else found[0]


def _finding(
    name: str, verdict: str, reason: str, statistic: dict[str, float | None] | None = None
) -> Finding:
    return Finding.model_validate(
        {
            "check": "A1",
            "name": name,
            "view": "release log",
            "gate": True,
            "verdict": verdict,
            "reason": reason,
            "statistic": statistic or {},
            "power": EXACT if verdict == "pass" else "",
        }
    )

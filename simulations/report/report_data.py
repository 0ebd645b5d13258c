"""Gathers everything that the report shows; the page draws from this and nothing else.

So every figure on the page has its numbers in `report.json`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from common.unit_texts import UNIT_WORDS
from simulations.fairness.groups import GENDER_LIMIT, HOLD_OUT_LIMIT
from simulations.report.alerts import alerts
from simulations.report.claim import Claim, make_claim
from simulations.report.headline import make_headline
from simulations.report.metrics_file import MetricsFile
from simulations.report.own_checks import own_checks
from simulations.report.privacy_totals import EpsilonLine, SiteTotals, site_totals
from simulations.report.run_files import RoundRecord, RunFiles
from simulations.report.secure_sum import secure_sum_lines
from simulations.report.utility_by_epsilon import utility_by_epsilon
from simulations.report.who_sees_what import MODES, parties

SCHEMA_VERSION = 1
TUNING_NOTE = (
    "Settings chosen on non-private validation are not covered by ε, and neither are the runs "
    "that chose them."
)
VALIDATION_NOTES = {
    "exact": "exact, lab only",
    "private": "noised at every site, charged to its ledger and covered by ε",
    "none": "none was asked for",
}
CURVE_METRICS = ("hr_10", "ndcg_10")

JsonObject = dict[str, Any]


def report_data(run: RunFiles) -> JsonObject:
    """Assemble `report.json`.

    Args:
        run: the records of the run.

    Returns:
        Plain JSON values; null stands for what is unknown or unbounded.
    """
    totals = site_totals(run.releases, run.config.privacy.target_delta)
    claim = make_claim(run, totals)
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run.name,
        "run_id": run.rounds[-1].run if run.rounds else None,
        "adapter_sha256": run.rounds[-1].adapter_sha256 if run.rounds else None,
        "config_sha256": run.config.sha256(),
        "config": run.config.model_dump(mode="json"),
        "mode": run.config.privacy.mode,
        "claim": asdict(claim) | {"epsilon_phrase": claim.epsilon_phrase()},
        "unit_words": asdict(UNIT_WORDS[run.config.privacy.unit]),
        "headline": asdict(make_headline(claim, run.metrics)),
        "alerts": [asdict(alert) for alert in alerts(run, claim, totals)],
        "results": run.metrics.model_dump(mode="json") if run.metrics else None,
        "utility_by_epsilon": (
            utility_by_epsilon(run.metrics, claim.unit, run.siblings) if run.metrics else None
        ),
        "diversity": run.diversity.model_dump(mode="json") if run.diversity else None,
        "utility_by_round": utility_by_round(run.rounds),
        "validation_note": VALIDATION_NOTES[run.config.evaluation.metrics],
        "epsilon_by_round": epsilon_by_round(run, claim),
        "sites": _sites(totals, run.rounds),
        "groups_notes": _groups_notes(run.metrics),
        "secure_sum": secure_sum_lines(run),
        "who_sees_what": {
            "modes": [
                dict(zip(("mode", "noise", "trusted", "server"), m, strict=True)) for m in MODES
            ],
            "parties": parties(
                run.config.privacy.mode,
                run.config.evaluation.metrics,
                run.config.privacy.unit,
                pairs=run.config.model.item_to_item,
            ),
        },
        "tuning": {"note": TUNING_NOTE, "tuned": list(run.metrics.tuned) if run.metrics else []},
        "cost": cost(run, totals),
        "own_checks": own_checks(run.name, is_private=run.config.is_private),
    }


def utility_by_round(rounds: Sequence[RoundRecord]) -> list[JsonObject]:
    """List the validation means of the rounds that validated: exact (lab only) or noised."""
    return [
        {"server_round": record.server_round}
        | {name: record.validation.get(name) for name in CURVE_METRICS}
        for record in rounds
        if record.validation
    ]


def epsilon_by_round(run: RunFiles, claim: Claim) -> JsonObject:
    """List the *total* ε of the sites after each round: highest and lowest site."""
    points = []
    for record in run.rounds:
        spent = [site.epsilon_prv for site in record.sites if site.epsilon_prv is not None]
        if spent:
            points.append(
                {"server_round": record.server_round, "highest": max(spent), "lowest": min(spent)}
            )
    target = run.config.privacy.target_epsilon if claim.status == "private" else None
    return {"points": points if claim.status == "private" else [], "target_epsilon": target}


def cost(run: RunFiles, totals: Sequence[SiteTotals]) -> JsonObject:
    """Total the time, bytes and memory of the run."""
    metrics = run.metrics
    seconds = [record.seconds for record in run.rounds if record.server_round > 0]
    sent = [site.bytes_up for site in totals]
    return {
        "seconds": metrics.seconds if metrics else sum(r.seconds for r in run.rounds),
        "rounds": len(seconds),
        "seconds_per_round": sum(seconds) / len(seconds) if seconds else None,
        "bytes_up_total": sum(sent),
        "bytes_up_per_site": sum(sent) / len(sent) if sent else None,
        "peak_memory_bytes": metrics.peak_memory_bytes if metrics else None,
        "device": metrics.device if metrics else None,
        "engine": run.config.engine.kind,
    }


def _with_silent_sites(
    totals: Sequence[SiteTotals], rounds: Sequence[RoundRecord]
) -> list[SiteTotals]:
    """Add sites that never released anything: they spent nothing."""
    known = {site.site for site in totals}
    others = {site.site for record in rounds for site in record.sites} - known
    nothing = EpsilonLine("nothing released", 0.0, 0.0, 0.0)
    silent = [SiteTotals(name, 0.0, 0.0, (nothing,) * 3, 0, 0) for name in others]
    return sorted([*totals, *silent], key=lambda site: site.site)


def _sites(totals: Sequence[SiteTotals], rounds: Sequence[RoundRecord]) -> list[JsonObject]:
    statuses: dict[str, list[str]] = defaultdict(list)
    for record in rounds:
        for site in record.sites:
            if record.server_round > 0:
                statuses[site.site].append(site.status)
    return [_site(site, statuses[site.site]) for site in _with_silent_sites(totals, rounds)]


def _site(site: SiteTotals, statuses: Sequence[str]) -> JsonObject:
    return {
        "site": site.site,
        "releases": site.releases,
        "bytes_up": site.bytes_up,
        "recorded_prv": site.recorded_prv,
        "recorded_rdp": site.recorded_rdp,
        "recomputed": [_finite(line) for line in site.lines],
        "rounds_ok": statuses.count("ok"),
        "rounds_refused": statuses.count("refused"),
        "rounds_failed": len(statuses) - statuses.count("ok") - statuses.count("refused"),
    }


def _finite(line: EpsilonLine) -> JsonObject:
    """JSON has no infinity: null stands for an unbounded ε."""
    numbers = {name: getattr(line, name) for name in ("prv", "rdp", "pld")}
    return {"label": line.label} | {
        name: value if value != float("inf") else None for name, value in numbers.items()
    }


def _groups_notes(metrics: MetricsFile | None) -> list[str]:
    if metrics is None or not metrics.groups:
        return []
    notes = ["In the lab only: outside a simulation, group figures would be releases that cost ε."]
    if metrics.groups_split == "leave_one_out":
        notes.append(HOLD_OUT_LIMIT)
    if any(record.attribute == "gender" for record in metrics.groups):
        notes.append(GENDER_LIMIT)
    return notes

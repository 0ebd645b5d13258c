"""A7, the ledgers: what their entries add up to, once their signatures hold.

What contradicts itself is refused before (`simulations.audit.evidence`); here stands what a
site signed and should not have: totals at another δ, too few steps, a release paid once and
made twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from common.privacy_events import merge_events
from simulations.audit.accounting import no_claim
from simulations.audit.evidence import Evidence
from simulations.audit.finding import Finding
from simulations.audit.ledger_charges import (
    delta_fault,
    rate_fault,
    steps_fault,
    totals_fault,
    unit_fault,
)
from simulations.audit.same_releases import release_key
from simulations.report.privacy_totals import charged

_INTEGRITY = "every ledger hashes to the root that its site signed, and every release is in it"
_SPENT = "the total that each site signed is that of its entries, and covers this run's releases"
_TOTALS = "every total that an entry states is that of all entries up to it, at the run's δ"
_DOUBLE = "every release was charged once, and left once"
_PEERS = "the ledgers extend every checkpoint that peers or anchors kept"
_ADAPTER = "the adapter has the SHA-256 that the record of the last round holds"
_DELTA = "every release states the run's δ, which is below 1 ÷ (number of users)"
_STEPS = "every update is charged for the steps of its round, once per round"
_RATE = "every release is charged at the run's sampling rate, and says how units were chosen"
_UNIT = "every release and every ledger is of the run's privacy unit"
GATES = {
    "ledger.integrity": _INTEGRITY,
    "ledger.spent": _SPENT,
    "ledger.totals": _TOTALS,
    "ledger.double_release": _DOUBLE,
    "ledger.peers": _PEERS,
    "evidence.adapter": _ADAPTER,
    "accounting.delta": _DELTA,
    "accounting.steps": _STEPS,
    "accounting.rate": _RATE,
    "accounting.unit": _UNIT,
}
_CLAIMS = ("ledger.totals", "accounting.delta", "accounting.steps", "accounting.rate")


def audit_ledgers(evidence: Evidence) -> tuple[Finding, ...]:
    """Examine what the sites signed.

    Args:
        evidence: of the run; its signatures, roots and records hold, or it would not be there.

    Returns:
        One finding per gate.
    """
    if not evidence.ledgers:
        return tuple(
            _finding(name, None, "", "no site released anything under a charge") for name in GATES
        )
    found = [
        _integrity(evidence),
        _finding("ledger.spent", _spent_fault(evidence), _SPENT),
        _finding("ledger.double_release", _double_fault(evidence), _DOUBLE),
        _peers(evidence),
        _adapter(evidence),
        _finding("accounting.unit", unit_fault(evidence), _UNIT),
    ]
    reason = no_claim(evidence)
    if reason:
        return (*found, *(_finding(name, None, "", reason) for name in _CLAIMS))
    return (
        *found,
        _finding("ledger.totals", totals_fault(evidence), _TOTALS),
        _finding("accounting.delta", delta_fault(evidence), _DELTA),
        _finding("accounting.steps", steps_fault(evidence), _STEPS),
        _finding("accounting.rate", rate_fault(evidence), _RATE),
    )


def _integrity(evidence: Evidence) -> Finding:
    ledgers = evidence.ledgers.values()
    pinned = sum(site in evidence.pinned for site in evidence.ledgers)
    known = (
        f"{pinned} of their keys are known from elsewhere"
        if pinned
        else "their keys are known from the run's folder alone: whoever forges a site's ledger "
        "and its key together is seen only with --site-keys"
    )
    return _finding(
        "ledger.integrity",
        "",
        f"{len(evidence.ledgers)} ledgers hash (RFC 6962) to the roots that their sites signed "
        f"(Ed25519), and every release is one of their entries; {known}",
        statistic={
            "ledgers": len(evidence.ledgers),
            "entries": sum(len(ledger.entries) for ledger in ledgers),
            "releases": len(charged(evidence.releases)),
            "pinned_keys": pinned,
        },
    )


def _peers(evidence: Evidence) -> Finding:
    by_ledger = {ledger.checkpoint.ledger_id: ledger for ledger in evidence.ledgers.values()}
    copies = [copy for copy in evidence.copies if copy.ledger_id in by_ledger]
    if not copies:
        reason = (
            "no copy of a checkpoint that peers or anchors kept was handed in (--against): a "
            "site that rewrote its whole history, and the server's records with it, is not seen"
        )
        return _finding("ledger.peers", None, "", reason)
    for copy in copies:
        ledger = by_ledger[copy.ledger_id]
        if copy.is_signed_by(ledger.checkpoint.public_key) and not ledger.holds(copy):
            return _finding(
                "ledger.peers",
                f"a kept checkpoint of {copy.site} of {copy.tree_size} entries is not of the "
                "exported history: it was set back or forked",
                "",
            )
    return _finding("ledger.peers", "", f"the ledgers extend {len(copies)} kept checkpoints")


def _adapter(evidence: Evidence) -> Finding:
    adapter = evidence.adapter
    if adapter is None or adapter.bound_by != "recorded":
        how = {None: "there is no adapter", "checkpoint": "it equals the checkpoint's tensors"}
        text = how.get(adapter.bound_by if adapter else None, "it merely names the run")
        reason = f"no round's record holds the adapter's SHA-256 ({text})"
        return _finding("evidence.adapter", None, "", reason, view="the final adapter")
    return _finding("evidence.adapter", "", _ADAPTER, view="the final adapter")


def _spent_fault(evidence: Evidence) -> str:
    for site, ledger in evidence.ledgers.items():
        if ledger.checkpoint.spent_events() != merge_events(ledger.events()):
            return f"the total that {site} signed is not that of its entries"
        entries = sum(entry["run"] == evidence.run for entry in ledger.releases)
        kept = {release_key(r.model_dump()) for r in charged(evidence.releases) if r.site == site}
        if entries < len(kept):
            return f"{site} was charged for {entries} releases of the run, and made {len(kept)}"
    return ""


def _double_fault(evidence: Evidence) -> str:
    sent: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for record in charged(evidence.releases):
        sent[release_key(record.model_dump())].add(record.payload_sha256)
    for (site, server_round, kind), payloads in sent.items():
        if len(payloads) > 1:
            return (
                f"{site} released {kind} of round {server_round} {len(payloads)} times with "
                "different bytes, under one charge"
            )
    for site, ledger in evidence.ledgers.items():
        keys = Counter((e["run"], e["server_round"], e["kind"]) for e in ledger.releases)
        for (_, server_round, kind), count in keys.items():
            if count > 1:
                return f"{site} charged {kind} of round {server_round} {count} times"
    return ""


def _finding(
    name: str,
    fault: str | None,
    holds: str,
    untestable: str = "",
    *,
    view: str = "the ledgers",
    statistic: dict[str, int] | None = None,
) -> Finding:
    """A finding: failed with `fault`, passed where it is empty, not testable where None."""
    verdict = "not_testable" if fault is None else "fail" if fault else "pass"
    return Finding.model_validate(
        {
            "check": "A7",
            "name": name,
            "view": view,
            "gate": True,
            "verdict": verdict,
            "reason": untestable or fault or holds,
            "statistic": statistic or {},
            "power": "exact: every such entry is seen" if verdict == "pass" else "",
        }
    )

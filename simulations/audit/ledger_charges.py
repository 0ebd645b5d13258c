"""What a site's entries were charged for, against the run's configuration: faults by name."""

from __future__ import annotations

from collections.abc import Iterable

from common.accounting import Accountant, epsilon
from common.noise_plan import steps_per_round
from common.privacy_events import PrivacyEvent, event_from_dict, history_log_ratio
from simulations.audit.evidence import Evidence
from simulations.audit.exported_ledger import Entry, ExportedLedger, is_release

ACCOUNTANTS: tuple[Accountant, ...] = ("prv", "rdp")
_TOTAL_SLACK = 1e-9


def unit_fault(evidence: Evidence) -> str:
    """Where a ledger or a release is of another unit than the run; empty where none is."""
    unit = evidence.config.privacy.unit
    for site, ledger in evidence.ledgers.items():
        if ledger.unit != unit:
            return f"the ledger of {site} is per {ledger.unit}, the run claims per {unit}"
    for record in evidence.releases:
        if record.unit != unit:
            return f"{record.site} released per {record.unit}, the run claims per {unit}"
    return ""


def totals_fault(evidence: Evidence) -> str:
    """Which total an entry states is below that of all entries up to it; empty where none is."""
    delta = evidence.config.privacy.target_delta
    for site, ledger in evidence.ledgers.items():
        for number, entry, history in _own_entries(evidence, ledger):
            for name in ACCOUNTANTS:
                stated, truth = entry["record"][f"epsilon_{name}"], epsilon(history, delta, name)
                if stated is None or stated < truth - _TOTAL_SLACK - history_log_ratio(history):
                    shown = "no" if stated is None else f"ε={stated:.4f} as"
                    return (
                        f"entry {number} of {site} states {shown} {name.upper()} total, its "
                        f"entries up to there cost ε={truth:.4f} at δ={delta:g}"
                    )
    return ""


def delta_fault(evidence: Evidence) -> str:
    """Where δ is not the run's, or not below 1 ÷ users; empty where it is."""
    delta = evidence.config.privacy.target_delta
    users = evidence.files.metrics.rows[0].users if evidence.files.metrics else 0
    if users and delta * users >= 1:
        return f"δ={delta:g} is not below 1 ÷ {users} users"
    for site, ledger in evidence.ledgers.items():
        for number, entry, _ in _own_entries(evidence, ledger):
            if {entry["delta"], entry["record"]["delta"]} != {delta}:
                return f"entry {number} of {site} is at δ={entry['delta']}, the run's is {delta:g}"
    fault = totals_fault(evidence)
    return f"a total holds only at a larger δ: {fault}" if fault else ""


def steps_fault(evidence: Evidence) -> str:
    """Which entry is charged for other steps than the configuration makes; empty where none is."""
    expected = steps_per_round(evidence.config)
    for site, ledger in evidence.ledgers.items():
        for number, entry, _ in _own_entries(evidence, ledger):
            steps = _steps(entry)
            wanted = expected if entry["kind"] == "update" else 1
            if steps != wanted:
                return (
                    f"entry {number} of {site} ({entry['kind']}, round {entry['server_round']}) "
                    f"is charged for {steps} steps, the run's configuration makes {wanted}"
                )
    return ""


def rate_fault(evidence: Evidence) -> str:
    """Which entry is charged at a rate below the run's, or unsampled; empty where none is."""
    rate = evidence.config.privacy.sample_rate
    for site, ledger in evidence.ledgers.items():
        for number, entry, _ in _own_entries(evidence, ledger):
            charged_rate = (entry["event"] or {}).get("sample_rate", 1.0)
            wanted = rate if entry["kind"] == "update" else 1.0
            if charged_rate < wanted:
                return (
                    f"entry {number} of {site} is charged at q={charged_rate:g}, the run samples "
                    f"at q={wanted:g}"
                )
            if charged_rate < 1 and entry["record"]["sampling"] != "poisson":
                return f"entry {number} of {site} is amplified, and its units were not sampled"
    return ""


def _own_entries(
    evidence: Evidence, ledger: ExportedLedger
) -> Iterable[tuple[int, Entry, list[PrivacyEvent]]]:
    """The noised releases of this run: place in the ledger, entry, and all charges up to it."""
    history: list[PrivacyEvent] = []
    for number, entry in enumerate(ledger.entries, start=1):
        if entry["event"]:
            history.append(event_from_dict(entry["event"]))
            if entry["run"] == evidence.run and is_release(entry):
                yield number, entry, history


def _steps(entry: Entry) -> int:
    event = entry["event"]
    return int(event.get("steps", event.get("count", 0)))

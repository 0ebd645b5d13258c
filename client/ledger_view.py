"""A ledger for people: its entries, and its totals beside the site's limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from client.policy import SitePolicy
from common.accounting import epsilon
from common.privacy_events import event_from_dict
from common.unit_texts import UNIT_WORDS


def ledger_summary(exported: Mapping[str, Any], policy: SitePolicy) -> dict[str, Any]:
    """The totals of an exported ledger, with all that an ε needs to be read."""
    events = [event_from_dict(entry["event"]) for entry in _entries(exported) if entry["event"]]
    checkpoint = exported["checkpoint"] or {}
    return {
        "unit": exported["unit"],
        "neighbouring_relation": "add_or_remove_one",
        "unit_note": UNIT_WORDS[exported["unit"]].note,
        "delta": policy.max_delta,
        "epsilon_prv": epsilon(events, policy.max_delta, "prv"),
        "epsilon_rdp": epsilon(events, policy.max_delta, "rdp"),
        "max_epsilon": policy.max_epsilon,
        "releases": len(exported["releases"]),
        "refusals": len(exported["refusals"]),
        "recovered": len(exported["recovered"]),
        "tree_size": checkpoint.get("tree_size"),
        "root": checkpoint.get("root"),
    }


def show_ledger(console: Console, exported: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """Prints the entries and the totals."""
    table = Table("entry", "time (UTC)", "run", "round", "kind", "cost, or why not")
    for entry in _entries(exported):
        cost = json.dumps(entry["event"]) if entry["event"] else entry["record"].get("reason", "–")
        cells = (entry["seq"], entry["created_at"][:19], entry["run"], entry["server_round"])
        table.add_row(*map(str, cells), entry["kind"], cost)
    console.print(table, markup=False)
    console.print(
        f"total ε = {summary['epsilon_prv']:.4f} (PRV; RDP {summary['epsilon_rdp']:.4f}) at "
        f"δ = {summary['delta']:g} of the site's {summary['max_epsilon']:g}, per "
        f"{summary['unit']}, add or remove one, each step's Poisson sample secret",
        markup=False,
    )
    if summary["unit_note"]:
        console.print(summary["unit_note"], markup=False)
    console.print(f"{summary['tree_size']} entries under root {summary['root']}", markup=False)


def _entries(exported: Mapping[str, Any]) -> list[dict[str, Any]]:
    every = [*exported["releases"], *exported["refusals"], *exported["recovered"]]
    return sorted(every, key=lambda entry: int(entry["seq"]))

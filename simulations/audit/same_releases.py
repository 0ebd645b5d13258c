"""The release log against the ledgers: every line as its site signed it, and none taken out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from common.errors import EvidenceError
from common.ledger_checkpoint import Checkpoint, parse_checkpoint
from simulations.audit.exported_ledger import REMEDY, Entry, ExportedLedger

Line = Mapping[str, Any]


def release_key(line: Line) -> tuple[str, int, str]:
    """Site, round and kind of a release, with the stage of released metrics."""
    kind = str(line["kind"])
    if kind == "metrics":
        kind = ":".join((kind, *line["tensors"]))
    return str(line["site"]), int(line["server_round"]), kind


def check_releases(
    path: Path, lines: Sequence[Line], ledgers: Mapping[str, ExportedLedger]
) -> None:
    """Hold every charged line against its checkpoint and the entry that the checkpoint seals.

    A line beside another of the same release, with other bytes, is left to
    `simulations.audit.ledgers`: a site that released twice makes it, too.

    Args:
        path: the run's folder, for the message.
        lines: of `releases.jsonl`.
        ledgers: of every site that released under a charge.

    Raises:
        EvidenceError: a line was edited, or its checkpoint is not of the site's ledger.
    """
    by_key: dict[tuple[str, int, str], list[str]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        if line["mechanism"] == "exact_lab_only":
            continue
        where = f"{path}/releases.jsonl, line {number}"
        ledger = ledgers[line["site"]]
        checkpoint = _checkpoint(where, line, ledger)
        by_key[release_key(line)].append(
            "" if _is_entry(line, checkpoint, ledger) else f"{where} ({_named(line)})"
        )
    for found in by_key.values():
        if "" not in found:
            _refuse(found[0], "is not what the site's ledger was charged for")


def _checkpoint(where: str, line: Line, ledger: ExportedLedger) -> Checkpoint:
    """The line's checkpoint, of this ledger and signed by its site."""
    checkpoint = parse_checkpoint(json.dumps(line.get("ledger_checkpoint")))
    named = f"{where} ({_named(line)})"
    if checkpoint is None:
        _refuse(named, "has no readable ledger checkpoint")
    if not checkpoint.is_signed_by(ledger.checkpoint.public_key):
        _refuse(named, "has a checkpoint that its site did not sign")
    if checkpoint.ledger_id != ledger.checkpoint.ledger_id or checkpoint.site != line["site"]:
        _refuse(named, "has the checkpoint of another ledger")
    if not ledger.holds(checkpoint):
        _refuse(
            named,
            f"has a signed checkpoint of {checkpoint.tree_size} entries that the exported ledger "
            f"of {len(ledger.entries)} does not extend",
        )
    return checkpoint


def _is_entry(line: Line, checkpoint: Checkpoint, ledger: ExportedLedger) -> bool:
    """Whether the line states what the entry that its checkpoint seals was charged for."""
    stated = {name: value for name, value in line.items() if name != "ledger_checkpoint"}
    if checkpoint.place in ledger.adopted:
        return any(_record(entry) == stated for entry in ledger.entries)
    entry = ledger.entries[checkpoint.tree_size - 1]
    return (
        _record(entry) == stated
        and entry["event"] == stated["event"]
        and (entry["run"], entry["server_round"]) == (stated["run"], stated["server_round"])
    )


def _record(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry["record"].items() if name != "ledger_checkpoint"}


def _named(line: Line) -> str:
    return f"{line['kind']} of {line['site']} in round {line['server_round']}"


def _refuse(where: str, reason: str) -> NoReturn:
    raise EvidenceError(f"tampered evidence: {where} {reason}; {REMEDY}")

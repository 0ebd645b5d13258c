"""A site's exported ledger, read as an auditor reads it: nothing in it is believed unsigned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from client.ledger_log import RECOVERED, REFUSAL, entry_leaf
from common.canonical_json import canonical_json
from common.errors import EvidenceError, PrivacyError
from common.ledger_checkpoint import Checkpoint, parse_checkpoint
from common.merkle import prefix_roots
from common.privacy_events import PrivacyEvent, event_from_dict

Entry = Mapping[str, Any]
REMEDY = "nothing was audited; get the file from its writer again"


@dataclass(frozen=True)
class ExportedLedger:
    """A ledger whose entries are those that its site signed.

    Attributes:
        site: its name.
        unit: the privacy unit that it is bound to.
        entries: every entry in order: releases, refusals and recoveries.
        roots: RFC 6962 root (hex) over the first n entries, for n from 0.
        checkpoint: the site's signature over all of them.
        adopted: places (size, root) of other histories that a recovery has paid for.
    """

    site: str
    unit: str
    entries: tuple[Entry, ...]
    roots: tuple[str, ...]
    checkpoint: Checkpoint
    adopted: frozenset[tuple[int, str]]

    @property
    def releases(self) -> tuple[Entry, ...]:
        """The entries that charged a release."""
        return tuple(entry for entry in self.entries if is_release(entry))

    def holds(self, checkpoint: Checkpoint) -> bool:
        """Whether `checkpoint` is of this history, or of one that a recovery has paid for."""
        size, root = checkpoint.place
        return checkpoint.place in self.adopted or (
            size < len(self.roots) and self.roots[size] == root
        )

    def events(self) -> list[PrivacyEvent]:
        """All that was charged, in order."""
        return [event_from_dict(entry["event"]) for entry in self.entries if entry["event"]]


def read_exported_ledger(path: Path, site: str, content: Mapping[str, Any]) -> ExportedLedger:
    """Check an export against the site's own signature.

    Args:
        path: of the file, for the message.
        site: whose ledger it should be.
        content: the file's JSON.

    Raises:
        EvidenceError: the entries are not those that were signed, or another site's.
    """
    checkpoint = parse_checkpoint(json.dumps(content.get("checkpoint")))
    if checkpoint is None or not checkpoint.is_signed_by(checkpoint.public_key):
        _refuse(path, "its checkpoint is not signed by its site")
    if checkpoint.site != site:
        _refuse(path, f"it is the ledger of {checkpoint.site}, not of {site}")
    bound = {
        "key": checkpoint.public_key,
        "unit": content.get("unit"),
        "dataset": content.get("dataset_fingerprint"),
    }
    if _sha256(bound) != checkpoint.ledger_id:
        _refuse(path, "its unit or data set is not what the signed ledger is bound to")
    entries = _entries(path, content)
    roots = tuple(root.hex() for root in prefix_roots([entry_leaf(entry) for entry in entries]))
    if checkpoint.place != (len(entries), roots[-1]):
        _refuse(
            path,
            f"its {len(entries)} entries are not the {checkpoint.tree_size} that its site signed "
            f"(Merkle root {roots[-1][:16]}…, signed {checkpoint.root[:16]}…)",
        )
    return ExportedLedger(
        site=site,
        unit=str(content["unit"]),
        entries=entries,
        roots=roots,
        checkpoint=checkpoint,
        adopted=_adopted(entries),
    )


def is_release(entry: Entry) -> bool:
    """Whether the entry charged a release, and is neither a refusal nor a recovery."""
    return _sort(entry) == "releases"


def _entries(path: Path, content: Mapping[str, Any]) -> tuple[Entry, ...]:
    """Every entry in the order of its number, each charged with events that are known."""
    try:
        found = [
            (int(entry["seq"]), sort, entry)
            for sort in ("releases", "refusals", "recovered")
            for entry in content[sort]
        ]
        found.sort(key=lambda each: each[0])
        for _, sort, entry in found:
            if sort != _sort(entry):
                _refuse(path, f"entry {entry['seq']} stands among the {sort}, and is none")
            if entry["event"] is not None:
                event_from_dict(entry["event"])
    except (KeyError, TypeError, ValueError, PrivacyError) as error:
        if isinstance(error, EvidenceError):
            raise
        _refuse(path, f"an entry cannot be read ({error})")
    return tuple(entry for _, _, entry in found)


def _adopted(entries: tuple[Entry, ...]) -> frozenset[tuple[int, str]]:
    return frozenset(
        (int(place["tree_size"]), str(place["root"]))
        for entry in entries
        if entry["kind"] == RECOVERED
        for place in entry["record"]["adopted"]
    )


def _sort(entry: Entry) -> str:
    kind = str(entry["kind"])
    if kind.startswith(REFUSAL):
        return "refusals"
    return "recovered" if kind == RECOVERED else "releases"


def _sha256(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()


def _refuse(path: Path, reason: str) -> NoReturn:
    raise EvidenceError(f"tampered evidence: {path}: {reason}; {REMEDY}")

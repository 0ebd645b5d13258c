"""The audit's own log: append-only, RFC 6962 hashing, each root signed by the auditor.

What will be tested is in it, signed, before anything is looked at; whoever holds an
`audit.json` can hold the log to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.atomic_files import append_json_lines
from common.canonical_json import canonical_json
from common.errors import EvidenceError
from common.merkle import leaf_hash, prefix_roots
from common.schema_version import read_versioned_lines
from simulations.audit.auditor_key import is_signed, public_hex, sign

LOG_FILE = "audit-log.jsonl"
_DOMAIN = b"fedrec audit log 1\n"
_SEALS = ("root", "public_key", "signature")


class LogPlace(NamedTuple):
    """A size of the log, and its root (hex) there."""

    tree_size: int
    root: str


class AuditLog:
    """The log at `path`, as far as it is whole."""

    def __init__(self, path: Path, key: Ed25519PrivateKey) -> None:
        """Opens the log for one audit.

        Raises:
            EvidenceError: its entries are not those that were signed.
        """
        self.path = path
        self._key = key
        self._leaves = [_leaf(line) for line in read_log(path)]

    @property
    def place(self) -> LogPlace:
        """Where it stands."""
        return LogPlace(len(self._leaves), prefix_roots(self._leaves)[-1].hex())

    def append(self, kind: str, content: Mapping[str, Any]) -> LogPlace:
        """Append an entry, signed, and wait until the disk has it.

        Args:
            kind: `pre_registration`, `finding`, `opening` or `report`.
            content: JSON values.
        """
        entry: dict[str, Any] = {
            "schema_version": 1,
            "seq": len(self._leaves) + 1,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "kind": kind,
            "content": dict(content),
        }
        self._leaves.append(_leaf(entry))
        place = self.place
        seal = {"public_key": public_hex(self._key), "root": place.root}
        signature = sign(self._key, _DOMAIN, {"tree_size": place.tree_size, **seal})
        append_json_lines(self.path, [{**entry, **seal, "signature": signature}])
        return place


def read_log(path: Path) -> list[dict[str, Any]]:
    """Every entry of the log at `path`, checked; no log, no entries.

    Raises:
        EvidenceError: an entry is not what was signed.
        RunFolderError: a line is damaged.
    """
    lines = read_versioned_lines(path)
    roots = prefix_roots([_leaf(line) for line in lines])
    for size, line in enumerate(lines, start=1):
        seal = {"public_key": str(line.get("public_key")), "root": roots[size].hex()}
        fields = {"tree_size": size, **seal}
        if line.get("root") != seal["root"] or not is_signed(
            seal["public_key"], str(line.get("signature")), _DOMAIN, fields
        ):
            raise EvidenceError(
                f"tampered evidence: {path}, line {size} is not what the auditor signed; "
                "restore the file, or audit into another folder with --out"
            )
    return lines


def root_at(lines: Sequence[Mapping[str, Any]], size: int) -> str | None:
    """The root (hex) of the first `size` entries; None where there are fewer."""
    if not 0 <= size <= len(lines):
        return None
    return prefix_roots([_leaf(line) for line in lines[:size]])[-1].hex()


def _leaf(line: Mapping[str, Any]) -> bytes:
    content = {name: value for name, value in line.items() if name not in _SEALS}
    return leaf_hash(canonical_json(content).encode("utf-8"))

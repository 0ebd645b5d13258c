"""A site's signed statement of its ledger at one size: anyone who keeps one can hold it to it.

A checkpoint also carries what the ledger had spent by then, so that any surviving copy is
enough to recover the higher spend. It says nothing that the site's releases do not say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.atomic_files import file_errors
from common.canonical_json import canonical_json
from common.errors import LedgerError
from common.privacy_events import MergedHistory, event_from_dict, event_to_dict, merge_events

_DOMAIN = b"fedrec ledger checkpoint 1\n"
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Checkpoint(BaseModel):
    """One signed checkpoint.

    Attributes:
        site: name of the site.
        ledger_id: of the identity key, unit and data set that the ledger is bound to.
        tree_size: number of entries.
        root: RFC 6962 root over them.
        spent: the merged privacy events of these entries.
        time: when it was made, UTC.
        public_key: the site's Ed25519 identity key.
        signature: over the canonical JSON of all other fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    site: str
    ledger_id: Hash
    tree_size: int = Field(ge=0)
    root: Hash
    spent: tuple[dict[str, Any], ...]
    time: str
    public_key: Hash
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    @property
    def place(self) -> tuple[int, str]:
        """Tree size and root: what two checkpoints of one history agree on."""
        return (self.tree_size, self.root)

    def spent_events(self) -> MergedHistory:
        """What the ledger had spent."""
        return merge_events(event_from_dict(event) for event in self.spent)

    def text(self) -> str:
        """The one text of this checkpoint."""
        return canonical_json(self.model_dump(mode="json"))

    def is_signed_by(self, public_key: str) -> bool:
        """Whether the holder of `public_key` (hex) signed every field."""
        fields = self.model_dump(mode="json", exclude={"signature"})
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(
                bytes.fromhex(self.signature), _signed_bytes(fields)
            )
        except (InvalidSignature, ValueError):
            return False
        return self.public_key == public_key


def sign_checkpoint(
    key: Ed25519PrivateKey,
    *,
    site: str,
    ledger_id: str,
    tree_size: int,
    root: bytes,
    spent: MergedHistory,
    time: str,
) -> Checkpoint:
    """A checkpoint signed with the site's identity key."""
    fields: dict[str, Any] = {
        "schema_version": 1,
        "site": site,
        "ledger_id": ledger_id,
        "tree_size": tree_size,
        "root": root.hex(),
        "spent": [event_to_dict(event) for event in spent],
        "time": time,
        "public_key": key.public_key().public_bytes_raw().hex(),
    }
    return Checkpoint(**fields, signature=key.sign(_signed_bytes(fields)).hex())


def parse_checkpoint(text: str | bytes) -> Checkpoint | None:
    """The checkpoint in `text`, or None where there is none."""
    try:
        return Checkpoint.model_validate_json(text)
    except ValidationError:
        return None


def read_checkpoints(path: Path) -> list[Checkpoint]:
    """Every checkpoint in a file: one, a ledger's export, or lines such as releases.jsonl.

    A last line that a crash cut short is ignored.

    Raises:
        RunFolderError: the file cannot be read.
        LedgerError: there is no checkpoint in it.
    """
    with file_errors("read", path):
        content = path.read_text(encoding="utf-8", errors="replace")
    found = [checkpoint for value in _json_values(content) for checkpoint in _checkpoints_in(value)]
    if not found:
        raise LedgerError(
            f"{path} holds no ledger checkpoint; give a run's releases.jsonl, a site's exported "
            "ledger, or an anchor file"
        )
    return found


def _json_values(content: str) -> Iterable[object]:
    try:
        yield json.loads(content)
    except ValueError:
        for line in content.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _checkpoints_in(value: object) -> Iterable[Checkpoint]:
    if not isinstance(value, Mapping):
        return
    for each in (value, value.get("ledger_checkpoint"), value.get("checkpoint")):
        if isinstance(each, Mapping):
            found = parse_checkpoint(json.dumps(dict(each)))
            if found is not None:
                yield found


def _signed_bytes(fields: Mapping[str, Any]) -> bytes:
    return _DOMAIN + canonical_json(fields).encode("utf-8")

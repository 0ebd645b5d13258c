"""The auditor's Ed25519 key: made on first use in the user's state folder, mode 0600."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from common.atomic_files import file_errors, write_text
from common.canonical_json import canonical_json
from common.errors import AuditorKeyError
from common.key_file import load_key
from common.state_folder import state_folder

KEY_FILE = "auditor.key"
PUBLIC_FILE = "auditor.pub"
_HEX_LENGTH = 64


def auditor_folder() -> Path:
    """Where the auditor's keys are."""
    return state_folder() / "auditor"


def load_auditor_key(folder: Path | None = None) -> Ed25519PrivateKey:
    """The auditor's key; it is made where there is none, with its public half beside it.

    Args:
        folder: where it is; the user's state folder where left out.

    Raises:
        AuditorKeyError: it is damaged, or readable by others.
        RunFolderError: the file system refuses.
    """
    folder = folder or auditor_folder()
    with file_errors("make", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed = load_key(folder / KEY_FILE, "the auditor's", AuditorKeyError, begin=True)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = folder / PUBLIC_FILE
    if not public.is_file():
        write_text(public, public_hex(key) + "\n")
    return key


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public half, hex."""
    return key.public_key().public_bytes_raw().hex()


def sign(key: Ed25519PrivateKey, domain: bytes, fields: Mapping[str, Any]) -> str:
    """Signature (hex) over `domain` and the canonical JSON of `fields`."""
    return key.sign(domain + canonical_json(fields).encode("utf-8")).hex()


def is_signed(public_key: str, signature: str, domain: bytes, fields: Mapping[str, Any]) -> bool:
    """Whether the holder of `public_key` (hex) signed `fields` in `domain`."""
    content = domain + canonical_json(fields).encode("utf-8")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(
            bytes.fromhex(signature), content
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def read_public_key(given: str) -> str:
    """The public key (hex) that a person gave: hex, or a file that holds it.

    Raises:
        AuditorKeyError: it is neither.
        RunFolderError: the file cannot be read.
    """
    text, path = given, Path(given)
    if path.is_file():
        with file_errors("read", path):
            text = path.read_text(encoding="utf-8", errors="replace")
    text = text.strip().lower()
    if len(text) != _HEX_LENGTH or not set(text) <= set("0123456789abcdef"):
        raise AuditorKeyError(
            f"{given} is no public key: give 64 hexadecimal digits, or the auditor's {PUBLIC_FILE}"
        )
    return text

"""A site's own secrets: the key that signs its ledger, and the key of its data fingerprint."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.durability import Durability
from common.atomic_files import file_errors
from common.canonical_json import canonical_json
from common.errors import LedgerError

IDENTITY_FILE = "identity.key"
FINGERPRINT_FILE = "fingerprint.key"
_KEY_BYTES = 32


@dataclass(frozen=True)
class SiteIdentity:
    """The site's keys. They never leave the site.

    Attributes:
        signing_key: Ed25519 identity key.
        fingerprint_key: random key of the data-set fingerprint.
    """

    signing_key: Ed25519PrivateKey
    fingerprint_key: bytes

    def __repr__(self) -> str:
        return f"SiteIdentity({self.public_key})"

    @property
    def public_key(self) -> str:
        """The public identity key, hex."""
        return self.signing_key.public_key().public_bytes_raw().hex()

    def fingerprint(self, user_ids: Iterable[str], unit: str) -> str:
        """HMAC-SHA-256 of the set of user ids and the unit.

        Without the key it tells nothing about who is in the data, not even to someone
        who can guess every id; with it, another data set is told apart from this one.
        """
        digest = hmac.new(self.fingerprint_key, digestmod=hashlib.sha256)
        for text in (unit, *sorted(set(user_ids))):
            encoded = text.encode("utf-8")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        return digest.hexdigest()

    def ledger_id(self, unit: str, dataset_fingerprint: str) -> str:
        """Names the one ledger of this key, unit and data set."""
        bound = {"key": self.public_key, "unit": unit, "dataset": dataset_fingerprint}
        return hashlib.sha256(canonical_json(bound).encode("utf-8")).hexdigest()


def load_identity(
    folder: Path, *, begin: bool = True, durability: Durability = Durability.MACHINE
) -> SiteIdentity:
    """The keys in `folder`; they are made (mode 0600) where there are none, if `begin`.

    Raises:
        LedgerError: a key is missing, damaged, or readable by others.
        RunFolderError: the file system refuses.
    """
    if begin:
        with file_errors("make", folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed, fingerprint = (
        _key(folder / name, durability, begin=begin) for name in (IDENTITY_FILE, FINGERPRINT_FILE)
    )
    return SiteIdentity(Ed25519PrivateKey.from_private_bytes(seed), fingerprint)


def _key(path: Path, durability: Durability, *, begin: bool) -> bytes:
    if begin and not path.exists():
        _begin(path, durability)
    if not path.is_file():
        raise LedgerError(
            f"the site's key {path} is missing; restore it, the ledger cannot go on without it"
        )
    with file_errors("read", path):
        mode, content = path.stat().st_mode, path.read_bytes()
    if os.name == "posix" and mode & 0o077:
        raise LedgerError(f"the site's key {path} may be read by others; chmod 600 {path}")
    if len(content) != _KEY_BYTES:
        raise LedgerError(f"the site's key {path} is damaged; restore it from a backup")
    return content


def _begin(path: Path, durability: Durability) -> None:
    """Make the key, whole or not at all; where two processes race, the first one's stands."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with file_errors("write", path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
                file.flush()
                if durability.is_flushed:
                    os.fsync(file.fileno())
            with suppress(FileExistsError):
                path.hardlink_to(temporary)
        finally:
            temporary.unlink()

"""A site's own secrets: the key that signs its ledger, and the key of its data fingerprint."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.durability import Durability
from common.atomic_files import file_errors
from common.canonical_json import canonical_json
from common.errors import LedgerError
from common.key_file import load_key

IDENTITY_FILE = "identity.key"
FINGERPRINT_FILE = "fingerprint.key"


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
        load_key(
            folder / name, "the site's", LedgerError, begin=begin, flushed=durability.is_flushed
        )
        for name in (IDENTITY_FILE, FINGERPRINT_FILE)
    )
    return SiteIdentity(Ed25519PrivateKey.from_private_bytes(seed), fingerprint)

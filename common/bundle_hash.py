"""The hash of a bundle's code, and signatures over it.

What a relay says of its own code is the coordinator's word: whoever wrote the bundle wrote
the relay, and may state the hash and the signatures of another one. The agent's protection
never rests on it. A list of hashes in the policy catches an honest coordinator's wrong
version, and enters a deviation in the ledger; only where the operator installs
the SuperNode's bundle by hand does it say what runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from common.atomic_files import file_errors, write_json
from common.errors import MessageError, SiteAgentError

PACKAGES = ("client", "common", "server")
SIGNATURES_FILE = "client/signatures.json"
_CONTEXT = b"fedrec bundle\0"


class BundleSignature(BaseModel):
    """An Ed25519 signature over the bundle's hash."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


_SIGNATURES = TypeAdapter(list[BundleSignature])


def bundle_root() -> Path:
    """The folder that holds the packages that this very module came with."""
    return Path(__file__).resolve().parents[1]


def bundle_sha256(root: Path) -> str:
    """SHA-256 over path and content of every Python file of the bundle's packages, by path.

    Raises:
        SiteAgentError: `root` holds none.
        RunFolderError: a file cannot be read.
    """
    files = sorted(
        (path.relative_to(root).as_posix(), path)
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
    )
    if not files:
        raise SiteAgentError(
            f"{root} holds no bundle; name the folder that holds {', '.join(PACKAGES)}"
        )
    digest = hashlib.sha256()
    for name, path in files:
        with file_errors("read", path):
            content = path.read_bytes()
        for part in (name.encode("utf-8"), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def sign_bundle(root: Path, key_file: Path) -> BundleSignature:
    """Adds a signature over the bundle's hash to its `SIGNATURES_FILE`.

    Args:
        root: the bundle's folder.
        key_file: an Ed25519 private key, 32 raw bytes.

    Raises:
        SiteAgentError: the file holds no key, or the folder no bundle.
    """
    with file_errors("read", key_file):
        seed = key_file.read_bytes()
    if len(seed) != 32:
        raise SiteAgentError(f"{key_file} has {len(seed)} bytes; an Ed25519 key has 32 raw bytes")
    made = signature_of(bundle_sha256(root), Ed25519PrivateKey.from_private_bytes(seed))
    kept = [each for each in bundle_signatures(root) if each.public_key != made.public_key]
    write_json(root / SIGNATURES_FILE, [each.model_dump() for each in (*kept, made)])
    return made


def signature_of(sha256: str, key: Ed25519PrivateKey) -> BundleSignature:
    """A signature over a bundle's hash."""
    return BundleSignature(
        public_key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign(_CONTEXT + bytes.fromhex(sha256)).hex(),
    )


def bundle_signatures(root: Path) -> tuple[BundleSignature, ...]:
    """The signatures that come with the bundle; none where there is no such file.

    Raises:
        MessageError: the file is no list of signatures.
    """
    path = root / SIGNATURES_FILE
    if not path.is_file():
        return ()
    try:
        return tuple(_SIGNATURES.validate_json(path.read_bytes()))
    except ValidationError as error:
        raise MessageError(f"{SIGNATURES_FILE} of the bundle is no list of signatures") from error


def verified_signers(sha256: str, signatures: Iterable[BundleSignature]) -> frozenset[str]:
    """The public keys (hex) whose signature over `sha256` is right."""
    found = set()
    for each in signatures:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(each.public_key))
        try:
            key.verify(bytes.fromhex(each.signature), _CONTEXT + bytes.fromhex(sha256))
        except InvalidSignature:
            continue  # as if it were not there
        found.add(each.public_key)
    return frozenset(found)

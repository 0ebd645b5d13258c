"""An exported adapter: the folder that a coordinator hands out, and a site verifies.

::

    EXPORT/
        adapter_config.json, adapter_model.safetensors    LoRA in PEFT's format
        head.safetensors                                  head and score terms
        item_prior.safetensors, item_to_item.safetensors  where the run released them
        config.toml, README.md, PRIVACY.md
        manifest.json                                     SHA-256 of every file, signed

The manifest is trusted by its Ed25519 signature, and every other file by its hash in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.adapters import Adapter, adapter_sha256, all_finite, check_same_shapes, shapes
from common.atomic_files import file_errors
from common.canonical_json import canonical_json
from common.config import RunConfig
from common.config_loading import load_config
from common.errors import ExportError, MessageError
from common.initial_adapter import adapter_shapes
from common.peft_files import read_lora
from common.schema_version import read_versioned_tensors

MANIFEST_FILE = "manifest.json"
HEAD_FILE = "head.safetensors"
PRIOR_FILE = "item_prior.safetensors"
ITEM_TO_ITEM_FILE = "item_to_item.safetensors"
CONFIG_FILE = "config.toml"
_CONTEXT = b"fedrec adapter export\0"

Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Manifest(BaseModel):
    """``manifest.json``.

    Attributes:
        run: name of the run.
        server_round: the round that the adapter is of.
        config_sha256: hash of the run's configuration.
        adapter_sha256: of the adapter (`common.adapters.adapter_sha256`).
        base_weights: name of the frozen base model.
        base_weights_sha256: hash of its weight file; empty if it was not known.
        files: SHA-256 of every other file, by name.
        signer: Ed25519 public key, or empty.
        signature: over all that stands above, or empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    run: str = Field(min_length=1, max_length=200)
    server_round: int = Field(ge=0)
    config_sha256: Hex64
    adapter_sha256: Hex64
    base_weights: str
    base_weights_sha256: Hex64 | Literal[""]
    files: dict[Name, Hex64]
    signer: Hex64 | Literal[""] = ""
    signature: Annotated[str, Field(pattern=r"^([0-9a-f]{128})?$")] = ""

    def signed_by(self, key: Ed25519PrivateKey) -> Manifest:
        """This manifest with a signature."""
        named = self.model_copy(update={"signer": key.public_key().public_bytes_raw().hex()})
        return named.model_copy(update={"signature": key.sign(named.signed_bytes()).hex()})

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        content = self.model_dump(mode="json", exclude={"signature"})
        return _CONTEXT + canonical_json(content).encode("utf-8")


class ExportedAdapter(NamedTuple):
    """What a verified export holds.

    Attributes:
        manifest: which run it is of, and who signed.
        config: the run's configuration.
        adapter: the trained adapter.
        item_prior: ``[V]`` float32, or ``[0]`` where the run has none.
        item_to_item: the triangle of `common.item_to_item`, or ``[0]``.
    """

    manifest: Manifest
    config: RunConfig
    adapter: Adapter
    item_prior: npt.NDArray[np.float32]
    item_to_item: npt.NDArray[np.float32]


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in `folder` but the manifest, by name."""
    found = {}
    with file_errors("read", folder):
        for path in sorted(folder.iterdir()):
            if path.name != MANIFEST_FILE:
                found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def read_manifest(folder: Path) -> Manifest:
    """The manifest, not yet verified.

    Raises:
        ExportError: there is none, or it is damaged.
        RunFolderError: it cannot be read.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ExportError(f"{folder} holds no {MANIFEST_FILE}; name a folder of an export")
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ExportError(
            f"{path} is no manifest of an export; ask for the export again"
        ) from error


def verify_export(folder: Path, signers: Collection[str]) -> Manifest:
    """Holds the folder against its manifest, and that against the keys that are trusted.

    Args:
        folder: the export.
        signers: Ed25519 public keys (hex) of whom an adapter may come.

    Raises:
        ExportError: unsigned, signed by another, or a file is changed, missing or too many.
    """
    manifest = read_manifest(folder)
    if not manifest.signature:
        raise ExportError(f"{folder} is not signed; ask the coordinator to export with --key")
    if manifest.signer not in signers:
        raise ExportError(
            f"{folder} is signed by {manifest.signer[:16]}…, which is not a trusted key; "
            "give the coordinator's with --key, or list it under code_signers of policy.toml"
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(manifest.signer))
        key.verify(bytes.fromhex(manifest.signature), manifest.signed_bytes())
    except (InvalidSignature, ValueError) as error:
        raise ExportError(
            f"the signature in {folder / MANIFEST_FILE} is wrong: it was changed after signing"
        ) from error
    found = hashes(folder)
    for name in sorted(set(found) | set(manifest.files)):
        if found.get(name) != manifest.files.get(name):
            what = "changed" if name in found and name in manifest.files else "missing"
            what = what if name in manifest.files else "not in the manifest"
            raise ExportError(f"{folder / name} is {what}; ask for the export again")
    return manifest


def read_export(folder: Path, manifest: Manifest) -> ExportedAdapter:
    """The content of a verified export.

    Raises:
        ExportError: it does not fit together.
        RunFolderError: a file is damaged.
        WeightsError: the base model's configuration cannot be had.
    """
    config = load_config(scenario=folder / CONFIG_FILE)
    head, _ = read_versioned_tensors(folder / HEAD_FILE)
    expected = adapter_shapes(config)
    adapter = {n: array for n, array in read_lora(folder).items() if n in expected} | head
    adapter = {name: adapter[name] for name in sorted(adapter)}
    try:
        check_same_shapes(expected, shapes(adapter))
    except MessageError as error:
        raise ExportError(f"{folder} does not fit its own config.toml: {error}") from error
    if config.sha256() != manifest.config_sha256:
        raise ExportError(f"{folder / CONFIG_FILE} is not the run's; ask for the export again")
    if adapter_sha256(adapter) != manifest.adapter_sha256 or not all_finite(adapter):
        raise ExportError(f"the adapter in {folder} is not the run's; ask for the export again")
    return ExportedAdapter(
        manifest,
        config,
        adapter,
        _array(folder / PRIOR_FILE, "item_prior"),
        _array(folder / ITEM_TO_ITEM_FILE, "weights"),
    )


def _array(path: Path, name: str) -> npt.NDArray[np.float32]:
    tensors: dict[str, np.ndarray[Any, Any]] = (
        read_versioned_tensors(path)[0] if path.is_file() else {}
    )
    return np.asarray(tensors.get(name, np.zeros(0)), dtype=np.float32)

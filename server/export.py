"""``fedrec-server export``: a finished run as a folder to hand out, signed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.adapter_export import (
    CONFIG_FILE,
    HEAD_FILE,
    ITEM_TO_ITEM_FILE,
    MANIFEST_FILE,
    PRIOR_FILE,
    Manifest,
    hashes,
)
from common.adapters import Adapter, adapter_sha256
from common.atomic_files import file_errors, write_bytes, write_json, write_text
from common.base_weights import resolve_base_weights
from common.config import RunConfig
from common.config_loading import config_to_toml
from common.errors import EvidenceError, ExportError
from common.key_file import load_key
from common.peft_files import adapted_bert, write_peft_files
from common.run_folder import RunFolder
from common.schema_version import versioned_text
from common.tensor_files import Tensors, tensors_to_bytes
from server.model_card import RunFacts, model_card, privacy_statement, run_facts

STATEMENT_FILE = "PRIVACY.md"


def export_run(run: Path, out: Path, key_file: Path | None) -> Manifest:
    """Writes the export of a run into a new folder, whole or not at all.

    Args:
        run: the run's folder.
        out: of a folder that is not there, or empty.
        key_file: the coordinator's Ed25519 key, 32 raw bytes; None: unsigned, and no site
            will take it.

    Raises:
        ExportError: the run has no adapter to hand out, or `out` is in use.
        EvidenceError: the key is missing, damaged or readable by others, or the run's records
            do not fit together.
        PrivacyError: a site recorded less than it spent.
        RunFolderError: a file of the run is damaged, or the disk refuses.
    """
    folder, out = RunFolder.open(run), out.absolute()
    facts = run_facts(folder)
    key = None if key_file is None else _signing_key(key_file)
    with file_errors("make", out):
        if out.exists() and any(out.iterdir()):
            raise ExportError(f"{out} is not empty; export never overwrites, choose a new folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        manifest = _fill(made, folder, facts, key)
        with file_errors("make", out):
            made.chmod(0o755)
            os.rename(made, out)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return manifest


def _fill(
    made: Path, folder: RunFolder, facts: RunFacts, key: Ed25519PrivateKey | None
) -> Manifest:
    config, adapter = facts.config, facts.adapter
    weights = resolve_base_weights(config.model.weights)
    base = Path(config.model.weights).name if weights.source == "folder" else weights.name
    write_peft_files(adapted_bert(config, adapter), made, base)
    head = {name: array for name, array in adapter.items() if not name.startswith("lora.")}
    _write_tensors(made / HEAD_FILE, head, facts)
    tensors, _ = folder.read_checkpoint()
    if len(tensors["item_prior"]):
        prior = np.asarray(tensors["item_prior"], dtype=np.float32)
        _write_tensors(made / PRIOR_FILE, {"item_prior": prior}, facts)
    if pairs := folder.read_item_to_item():
        _write_tensors(made / ITEM_TO_ITEM_FILE, pairs, facts)
    write_text(made / CONFIG_FILE, config_to_toml(_without_paths(config)))
    write_text(made / "README.md", model_card(facts, base, weights.sha256))
    written = folder.path / STATEMENT_FILE
    with file_errors("read", written):
        whole = written.read_text("utf-8") if written.is_file() else privacy_statement(facts)
    write_text(made / STATEMENT_FILE, whole)
    manifest = Manifest(
        run=facts.run,
        server_round=facts.server_round,
        config_sha256=config.sha256(),
        adapter_sha256=adapter_sha256(adapter),
        base_weights=base,
        base_weights_sha256=weights.sha256,
        files=hashes(made),
    )
    if key is not None:
        manifest = manifest.signed_by(key)
    write_json(made / MANIFEST_FILE, manifest.model_dump(mode="json"))
    return manifest


def _write_tensors(path: Path, tensors: Tensors | Adapter, facts: RunFacts) -> None:
    metadata = {"run": facts.run, "config_sha256": facts.config.sha256()}
    write_bytes(path, tensors_to_bytes(tensors, versioned_text(metadata)))


def _without_paths(config: RunConfig) -> RunConfig:
    """The configuration without the coordinator's folders, which are no part of its hash."""
    return config.model_copy(update={"data": config.data.model_copy(update={"sites_folder": ""})})


def _signing_key(path: Path) -> Ed25519PrivateKey:
    seed = load_key(path, "the coordinator's", EvidenceError, begin=False)
    return Ed25519PrivateKey.from_private_bytes(seed)

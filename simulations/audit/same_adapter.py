"""The adapter against the run that it is said to come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from common.adapters import adapter_sha256
from common.errors import EvidenceError, RunFolderError
from common.run_folder import RunFolder
from common.tensor_files import read_tensors
from simulations.audit.exported_ledger import REMEDY
from simulations.report.run_files import RunFiles

Arrays = Mapping[str, npt.NDArray[Any]]
Binding = Literal["recorded", "checkpoint", "name only"]


@dataclass(frozen=True)
class AdapterEvidence:
    """The released adapter.

    Attributes:
        sha256: of its tensors (`common.adapters.adapter_sha256`).
        metadata: run, round and configuration that its file names.
        bound_by: `recorded`: its hash stands in the round's record; `checkpoint`: it equals the
            checkpoint's tensors, and no record has its hash (older folders); `name only`: it
            merely names the run.
    """

    sha256: str
    metadata: Mapping[str, str]
    bound_by: Binding


def read_adapter_evidence(
    folder: RunFolder, files: RunFiles, run: str | None
) -> AdapterEvidence | None:
    """Read the adapter, and hold it against rounds, checkpoint, and its exports.

    Args:
        folder: of the run.
        files: its records.
        run: the run's own name.

    Raises:
        EvidenceError: the adapter is not the one that the run's last round left.
    """
    path = folder.path / "adapter" / "adapter.safetensors"
    if not path.is_file():
        return None
    tensors, metadata = folder.read_adapter()
    if run is not None and metadata.get("run") != run:
        _refuse(path, f"it is of the run {metadata.get('run')}, not of {run}")
    sha256, bound_by = adapter_sha256(tensors), "name only"
    if folder.checkpoint_file.is_file():
        try:
            _check_checkpoint(folder, path, tensors, metadata)
        except (KeyError, ValueError, RunFolderError) as error:
            _refuse(folder.checkpoint_file, f"it is no checkpoint of a run ({error!r})")
        bound_by = "checkpoint"
    recorded = {
        str(r.server_round): r.adapter_sha256 for r in files.rounds if r.adapter_sha256 is not None
    }
    if recorded:
        last = max(recorded, key=int)
        if metadata.get("server_round") != last or recorded[last] != sha256:
            _refuse(path, f"its SHA-256 is not the one that rounds.jsonl records for round {last}")
        bound_by = "recorded"
    _check_peft(path, tensors)
    return AdapterEvidence(sha256, metadata, bound_by)  # type: ignore[arg-type]


def _check_checkpoint(
    folder: RunFolder, path: Path, tensors: Arrays, metadata: Mapping[str, str]
) -> None:
    kept, state = folder.read_checkpoint()
    own = {n.removeprefix("adapter/"): a for n, a in kept.items() if n.startswith("adapter/")}
    if not _equal(own, tensors):
        _refuse(path, "its tensors are not those of the run's checkpoint")
    for name in ("run", "server_round", "config_sha256"):
        if str(state.get(name)) != metadata.get(name):
            _refuse(path, f"its {name} is {metadata.get(name)}, the checkpoint's {state.get(name)}")
    pairs = folder.read_item_to_item()
    if pairs and not np.array_equal(pairs["weights"], kept.get("item_to_item", np.zeros(0))):
        _refuse(path.with_name("item_to_item.safetensors"), "it is not the checkpoint's")


def _check_peft(path: Path, tensors: Arrays) -> None:
    """PEFT's own file, which others load, holds the same trained factors."""
    exported = path.with_name("adapter_model.safetensors")
    if not exported.is_file():
        return
    factors, _ = read_tensors(exported)
    for name, array in factors.items():
        trained = tensors.get(f"lora.{name}")
        if trained is not None and not np.array_equal(trained, array):
            _refuse(exported, f"its tensor {name} is not the released adapter's")


def _equal(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def _refuse(path: Path, reason: str) -> NoReturn:
    raise EvidenceError(f"swapped adapter: {path}: {reason}; {REMEDY}")

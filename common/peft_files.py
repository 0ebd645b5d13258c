"""LoRA factors as PEFT writes and reads them: for `PeftModel.from_pretrained`, and back."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from common.adapters import Adapter, wire_name
from common.atomic_files import file_errors, write_bytes
from common.base_weights import load_bert, resolve_base_weights
from common.config import RunConfig
from common.item_tower import with_lora
from common.tensor_files import read_tensors

ADAPTER_CONFIG, ADAPTER_MODEL = "adapter_config.json", "adapter_model.safetensors"
PEFT_FILES = (ADAPTER_CONFIG, ADAPTER_MODEL)
_LORA = "lora."


def write_peft_files(model: PeftModel, target: Path, base_name: str | None = None) -> None:
    """Writes PEFT's two files into the folder `target`, each atomically.

    Args:
        model: the adapted BERT with the run's factors loaded; a frozen A is written too.
        target: made where it is missing.
        base_name: what the files call the base model; None: where it was loaded from.
    """
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        files = {name: (Path(scratch) / name).read_bytes() for name in PEFT_FILES}
    if base_name is not None:
        described = json.loads(files[ADAPTER_CONFIG])
        described["base_model_name_or_path"] = base_name
        files[ADAPTER_CONFIG] = json.dumps(described, indent=2, sort_keys=True).encode()
    with file_errors("make", target):
        target.mkdir(exist_ok=True)
    for name, content in files.items():
        write_bytes(target / name, content)


@torch.no_grad()
def adapted_bert(config: RunConfig, adapter: Adapter) -> PeftModel:
    """The base model with the LoRA factors of `adapter`; no catalogue is needed.

    Raises:
        WeightsError: the base weights cannot be had.
    """
    bert = load_bert(resolve_base_weights(config.model.weights))
    model = with_lora(bert, config.model, config.federation.seed)
    for name, parameter in model.named_parameters():
        array = adapter.get(wire_name(f"item_tower.peft.{name}"))
        if array is not None:
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))
    return model


def read_lora(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The factors in PEFT's file in `folder`, by the names that an adapter has for them.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    tensors, _ = read_tensors(folder / ADAPTER_MODEL)
    return {_LORA + name: array for name, array in tensors.items()}

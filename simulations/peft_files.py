"""The run's LoRA factors as PEFT writes them, for `PeftModel.from_pretrained`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from peft import PeftModel

from common.atomic_files import file_errors, write_bytes
from common.run_folder import RunFolder

PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")


def write_peft_files(model: PeftModel, folder: RunFolder) -> None:
    """Writes PEFT's two files beside the run's own adapter file, each atomically.

    Args:
        model: The adapted BERT with the run's factors loaded; a frozen A is written too.
        folder: The run's folder.
    """
    target = folder.path / "adapter"
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        with file_errors("make", target):
            target.mkdir(exist_ok=True)
        for name in PEFT_FILES:
            write_bytes(target / name, (Path(scratch) / name).read_bytes())

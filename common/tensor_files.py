"""Named arrays and text in one safetensors file: no code inside, one atomic write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from common.atomic_files import file_errors
from common.errors import RunFolderError

Tensors = Mapping[str, np.ndarray[Any, Any]]
_LENGTH_BYTES = 8


def tensors_to_bytes(tensors: Tensors, metadata: Mapping[str, str]) -> bytes:
    """Return the safetensors file of `tensors` (any shape, any plain dtype) and `metadata`."""
    # np.require would make 0-d arrays 1-d; safetensors wants C order.
    ordered = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    return safetensors.numpy.save(ordered, dict(metadata))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """Return the tensors and the metadata in the safetensors file at `path`.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        return tensors_from_bytes(content)
    except SafetensorError as error:
        raise RunFolderError(f"{path} is damaged: {error}; restore or remove it") from error


def tensors_from_bytes(content: bytes) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """The inverse of `tensors_to_bytes`.

    Raises:
        SafetensorError: `content` is no whole safetensors file.
    """
    tensors = safetensors.numpy.load(content)
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    return tensors, dict(header.get("__metadata__", {}))

"""The version that every file of a run names, and refuses to be read without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.atomic_files import read_json_lines
from common.errors import RunFolderError
from common.tensor_files import read_tensors

SCHEMA_VERSION = 1


def versioned(content: Mapping[str, object]) -> dict[str, object]:
    """Return `content` with its ``schema_version`` in front, unless it names one itself."""
    return {"schema_version": SCHEMA_VERSION, **content}


def versioned_text(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return `metadata` with the ``schema_version`` as text, as tensor files want it."""
    return {**metadata, "schema_version": str(SCHEMA_VERSION)}


def check_version(path: Path, content: object) -> None:
    """Refuse `content`, read from `path`, if it is no object of this version.

    Raises:
        RunFolderError: it is of another version, or names none.
    """
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} has schema_version {version!r}, expected {SCHEMA_VERSION}; "
            "read it with the version of fedrec that wrote it"
        )


def read_versioned_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of the log at `path`, each of this version; no log, no records.

    Raises:
        RunFolderError: a line is damaged or of another version.
    """
    records = read_json_lines(path)
    for record in records:
        check_version(path, record)
    return records


def read_versioned_tensors(
    path: Path,
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """Return tensors and metadata of the tensor file at `path`, without its version.

    Raises:
        RunFolderError: the file is missing, damaged or of another version.
    """
    tensors, metadata = read_tensors(path)
    version = metadata.pop("schema_version", "")
    check_version(path, {"schema_version": int(version) if version.isdigit() else version})
    return tensors, metadata

"""Frozen states on disk: one safetensors file per catalogue, mapped into memory when read.

Processes share the pages of a file, and nothing is loaded that is not used. A file is
written from start to end, renamed into place when it is whole, and never changed: a reader
keeps the file that it opened.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

SUFFIX = ".safetensors"
DIGEST_BYTES = 16
_ALIGNMENT = 64  # of the states in the file
_INDEX = ("digests", "offsets", "lengths")
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}

Digests = npt.NDArray[np.uint8]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StateIndex:
    """Which rows of the states belong to which text.

    Attributes:
        digests: ``[texts, 16]`` uint8, from `text_digests`.
        offsets: ``[texts]`` int64, a text's first row; equal texts share their rows.
        lengths: ``[texts]`` int64, its real tokens.
    """

    digests: Digests
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def sha256(self) -> str:
        """Of all three, to tell a damaged one."""
        parts = (self.digests, self.offsets, self.lengths)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@dataclass(frozen=True)
class StoredStates:
    """A file of states: its index, and the states ``[tokens, d]``, memory-mapped."""

    index: StateIndex
    states: torch.Tensor

    def is_sound(self) -> bool:
        """Whether every text's rows are there."""
        index, texts = self.index, len(self.index.digests)
        if not (index.offsets.shape == index.lengths.shape == (texts,)):
            return False
        if index.digests.shape != (texts, DIGEST_BYTES) or self.states.dim() != 2:
            return False
        ends = index.offsets + index.lengths
        inside = (index.offsets >= 0) & (index.lengths >= 1) & (ends <= len(self.states))
        return bool(inside.all())


def text_digests(texts: Sequence[str]) -> Digests:
    """``[texts, 16]`` uint8, the first half of each text's SHA-256."""
    joined = b"".join(
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES]
        for text in texts
    )
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def file_name(digests: Digests) -> str:
    """What the file of these texts, in this order, is called."""
    return hashlib.sha256(digests.tobytes()).hexdigest()[:32] + SUFFIX


def read_states(path: Path) -> StoredStates | None:
    """The states in the file at `path`; None where there are none.

    A damaged file counts as none, and is named in one line of the log. Its index is checked
    in full; of the states, which are not read here, only the extent.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            index = StateIndex(*(file.get_tensor(name).numpy() for name in _INDEX))
            is_whole = (file.metadata() or {}).get("index_sha256") == index.sha256()
            found = StoredStates(index, file.get_tensor("states"))
        if is_whole and file_name(index.digests) == path.name and found.is_sound():
            return found
        reason = "its index does not fit"
    except (OSError, SafetensorError) as error:
        reason = str(error)
    logger.warning("frozen states %s are damaged (%s) and not used", path, reason)
    return None


def states_of_texts(
    folder: Path, digests: Digests
) -> Iterator[tuple[StoredStates, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Finds texts in the files of `folder`, newest first.

    Args:
        folder: of files that were computed alike; it may be missing.
        digests: ``[D, 16]``, no two equal.

    Yields:
        A file, which of the D texts it has that no earlier one had, and their numbers there.
    """
    missing = np.arange(len(digests))
    for path in sorted(folder.glob(f"*{SUFFIX}"), key=lambda p: -p.stat().st_mtime_ns):
        stored = read_states(path) if len(missing) else None
        if stored is not None:
            theirs = stored.index.digests
            _, at, there = np.intersect1d(
                _short(digests[missing]), _short(theirs), return_indices=True
            )
            same = (digests[missing[at]] == theirs[there]).all(1)
            at, there = at[same], there[same]
            yield stored, missing[at], there
            missing = np.delete(missing, at)


def _short(digests: Digests) -> npt.NDArray[np.uint64]:
    """Eight of a digest's bytes, to sort and search by."""
    return np.ascontiguousarray(digests[:, :8]).view(np.uint64).ravel()


def write_states(
    path: Path,
    index: StateIndex,
    shape: tuple[int, int],
    dtype: torch.dtype,
    blocks: Iterable[torch.Tensor],
) -> None:
    """Writes states to `path` block by block; the file is there when it is whole.

    Args:
        path: the file.
        index: of all texts; the file's name must be its `file_name`.
        shape: ``(tokens, d)`` of the states.
        dtype: float32 or bfloat16.
        blocks: ``[…, d]`` each, on any device; together the states in the order of the file.

    Raises:
        OSError: the file system refuses; nothing of the file remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:16]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(_header(index, shape, dtype))
            for array in (index.digests, index.offsets, index.lengths):
                file.write(np.ascontiguousarray(array).tobytes())
            for block in blocks:
                # Written, not mapped: the pages are the kernel's at once.
                file.write(block.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _header(index: StateIndex, shape: tuple[int, int], dtype: torch.dtype) -> bytes:
    """Length and header of the safetensors format, padded with spaces."""
    entries: dict[str, object] = {"__metadata__": {"index_sha256": index.sha256()}}
    start = 0
    for name, kind, dims, size in (
        ("digests", "U8", index.digests.shape, index.digests.nbytes),
        ("offsets", "I64", index.offsets.shape, index.offsets.nbytes),
        ("lengths", "I64", index.lengths.shape, index.lengths.nbytes),
        ("states", _DTYPES[dtype], shape, shape[0] * shape[1] * dtype.itemsize),
    ):
        entries[name] = {"dtype": kind, "shape": dims, "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(entries).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text

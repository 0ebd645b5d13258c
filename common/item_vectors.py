"""Public vectors of items (of pictures, sound or a graph): a row for each item, beside its text.

They are public like the texts: they cost no ε, and they must be the same at every site. So they
are part of the catalogue and of its hash, and a run's configuration names their own hash
(`model.item_vectors_sha256`), which is signed with the adapter.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.column_checks import flat_column, read_ids, source_of
from common.config_sections import ModelConfig
from common.errors import ConfigError, DataError
from common.table_readers import read_table

COLUMN = "item_vector"
MOST_NUMBERS = 4096
"""Widest vector that is taken."""

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """Vectors of V items, in the catalogue's order.

    Attributes:
        values: float32 ``[V, w]``, finite, w ≥ 1; never written to.
    """

    values: Float32Array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ItemVectors) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self.values.shape[1])

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over shape and numbers (little-endian float32)."""
        shape = "x".join(map(str, self.values.shape))
        content = np.ascontiguousarray(self.values, dtype="<f4").tobytes()
        return hashlib.sha256(f"{shape}\n".encode() + content).hexdigest()

    def take(self, items: npt.NDArray[np.int64]) -> ItemVectors:
        """Those of some items, in that order."""
        return ItemVectors(self.values[items])


def vectors_of(items: pa.Table, where: str, ids: Sequence[str]) -> ItemVectors | None:
    """The column `COLUMN` of an items table; None where it has none.

    Raises:
        DataError: It does not hold a vector for each item.
    """
    if COLUMN not in items.column_names:
        return None
    array = flat_column(items, COLUMN)
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(array.type) for is_kind in kinds):
        raise DataError(
            f"{where}: `{COLUMN}` must hold lists of numbers, got type {array.type}; store them "
            "in Parquet, or name their file in data.item_vectors"
        )
    return checked_vectors(ids, array.to_pylist(), where)


def checked_vectors(ids: Sequence[str], rows: Sequence[Any], where: str) -> ItemVectors:
    """`rows`, a vector for each of `ids`.

    Raises:
        DataError: A vector is missing, of another width, or not of finite numbers; or all are
            the same.
    """
    width = next((len(row) for row in rows if row is not None), 0)
    if not 0 < width <= MOST_NUMBERS:
        raise DataError(
            f"{where}: vectors must have 1 to {MOST_NUMBERS} numbers, got {width}; shorten them"
        )
    for item_id, row in zip(ids, rows, strict=True):
        if row is None or len(row) != width:
            found = "none" if row is None else f"{len(row)} numbers"
            raise DataError(
                f"{where}: the vector of item {item_id!r} must have {width} numbers like the "
                f"first, got {found}; give every item one of the same width"
            )
    try:
        values = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: a vector holds what is no number; correct it") from None
    fits = (np.abs(values) <= np.finfo(np.float32).max).all(axis=1)  # NaN fails too
    if not fits.all():
        bad = ids[int(np.flatnonzero(~fits)[0])]
        raise DataError(
            f"{where}: the vector of item {bad!r} must be of finite numbers, and holds NaN or "
            "infinity; correct it"
        )
    found_values = values.astype(np.float32)
    if len(found_values) > 1 and (found_values == found_values[0]).all():
        raise DataError(f"{where}: all vectors are the same and tell no item apart; correct them")
    found_values.setflags(write=False)
    return ItemVectors(found_values)


def read_item_vectors(path: Path, item_ids: Sequence[str]) -> ItemVectors:
    """The vectors of `item_ids`, in that order, from a file; those of other items are left out.

    Args:
        path: ``.npz`` with arrays ``item_id`` and ``vectors``, or a Parquet table with columns
            ``item_id`` and ``item_vector``.
        item_ids: of the catalogue.

    Raises:
        DataError: The file is missing, damaged, without ids, or lacks an item; an id is there
            twice; a vector is wrong.
    """
    ids, rows = _npz(path) if path.suffix in (".npz", ".npy") else _table(path)
    place = {item_id: row for row, item_id in enumerate(ids)}
    if len(place) < len(ids):
        twice = next(item_id for row, item_id in enumerate(ids) if place[item_id] != row)
        raise DataError(f"{path}: item {twice!r} has two vectors; keep one of them")
    missing = [item_id for item_id in item_ids if item_id not in place]
    if missing:
        raise DataError(
            f"{path}: has no vector for {len(missing)} of {len(item_ids)} items, the first is "
            f"{missing[0]!r}; give every item of the catalogue one"
        )
    return checked_vectors(item_ids, [rows[place[item_id]] for item_id in item_ids], str(path))


def _npz(path: Path) -> tuple[list[str], Sequence[Any]]:
    if path.suffix == ".npy":
        raise DataError(
            f"{path}: a .npy file names no items; save an .npz file with item_id and vectors"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct data.item_vectors")
    try:
        with np.load(path, allow_pickle=False) as file:
            ids, vectors = file["item_id"], file["vectors"]
    except KeyError:
        raise DataError(f"{path}: must hold arrays item_id and vectors; save both") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        raise DataError(
            f"{path}: no .npz file of plain arrays; save ids as text and vectors as numbers"
        ) from None
    if ids.ndim != 1 or vectors.ndim != 2 or len(ids) != len(vectors):
        raise DataError(
            f"{path}: item_id must be [V] and vectors [V, w], got {list(ids.shape)} and "
            f"{list(vectors.shape)}; save a row for each id"
        )
    return [str(each) for each in ids.tolist()], vectors


def _table(path: Path) -> tuple[list[str], Sequence[Any]]:
    if path.suffix != ".parquet":
        raise DataError(f"{path}: item vectors must be a .npz or .parquet file; convert it")
    table = read_table(path)
    where = source_of(table, "vectors")
    missing = [name for name in ("item_id", COLUMN) if name not in table.column_names]
    if missing:
        raise DataError(f"{where}: missing column {', '.join(missing)}; name the columns so")
    ids: list[str] = read_ids(table, "item_id", where).to_pylist()
    rows: list[Any] = table.column(COLUMN).to_pylist()
    if any(row is not None and not isinstance(row, list) for row in rows):
        raise DataError(f"{where}: `{COLUMN}` must hold lists of numbers; store them so")
    return ids, rows


def check_named(model: ModelConfig) -> None:
    """Refuses a model that reads vectors without saying which.

    Raises:
        ConfigError: So it is.
    """
    if model.item_vectors_weight > 0 and not model.item_vectors_sha256:
        raise ConfigError(
            [
                "model.item_vectors_weight needs model.item_vectors_sha256, so that all sites "
                "have the same vectors; set what `fedrec data catalogue` prints, or "
                "model.item_vectors_weight=0"
            ]
        )


def fused_vectors(model: ModelConfig, vectors: ItemVectors | None) -> ItemVectors | None:
    """The vectors that the item tower of `model` reads, held against the run's hash.

    Args:
        model: The run's.
        vectors: The catalogue's.

    Raises:
        ConfigError: The model reads vectors, and no hash says which.
        DataError: The catalogue has none, or others.
    """
    if model.item_vectors_weight == 0:
        return None
    check_named(model)
    if vectors is None:
        raise DataError(
            f"the run reads item vectors (model.item_vectors_weight={model.item_vectors_weight}), "
            f"and this catalogue has no column {COLUMN}; take the federation's items.parquet"
        )
    if vectors.sha256 != model.item_vectors_sha256:
        raise DataError(
            f"the catalogue's item vectors have SHA-256 {vectors.sha256}, the run's have "
            f"{model.item_vectors_sha256}; take the federation's items.parquet"
        )
    return vectors

"""``per_user.parquet`` of a run: each user's metrics under every evaluated row, lab only.

It lets runs be compared over the same users after they are over. Users are numbered in the
order of the data set; no id stands in the file. It is exact, so it is no release: a
deployment has no such file.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from common.atomic_files import file_errors, write_bytes
from common.config import DataConfig
from common.errors import RunFolderError
from common.holdout import UserSplit
from common.metrics import METRIC_NAMES
from common.schema_version import check_version, versioned
from simulations.report.metrics_building import EvaluatedRow
from simulations.report.metrics_file import RowKind

PER_USER_FILE = "per_user.parquet"
_METADATA = b"fedrec"


@dataclass(frozen=True)
class Ground:
    """What rows were evaluated on; rows of equal grounds can be paired user by user.

    Attributes:
        dataset: its name.
        split: `data.split`.
        tie_seed: `data.seed`, which orders interactions of one moment.
        stage: `validation` or `test`.
        users: number of users.
        sha256: over every user's id, history and targets.
    """

    dataset: str
    split: str
    tie_seed: int
    stage: str
    users: int
    sha256: str

    def difference(self, other: Ground) -> str | None:
        """Return in words what first differs between two grounds, or None."""
        for name in ("dataset", "split", "stage", "users", "tie_seed"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                words = "data.seed" if name == "tie_seed" else name
                return f"{words} {mine} and {words} {theirs}"
        return None if self.sha256 == other.sha256 else "other users, items or interactions"


@dataclass(frozen=True)
class UserRow:
    """One evaluated row: what it is, and float64[U] of each metric."""

    name: str
    kind: RowKind
    mode: str
    epsilon: float | None
    metrics: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class PerUserFile:
    """The content of the file; the model is the first row."""

    ground: Ground
    rows: tuple[UserRow, ...]


def keep_users(
    folder: Path,
    config: DataConfig,
    dataset: str,
    splits: Sequence[UserSplit],
    rows: Sequence[EvaluatedRow],
) -> None:
    """Write the test metrics of every user into a run's folder.

    Args:
        folder: the run's.
        config: of the run's data.
        dataset: name of the data set.
        splits: one per user of it.
        rows: the model first; all hold the same users in the same order.

    Raises:
        RunFolderError: the file system refuses.
    """
    users = len(rows[0].metrics.user_ids)
    ground = Ground(dataset, config.split, config.seed, "test", users, splits_sha256(splits))
    write_per_user(folder, ground, rows)


def splits_sha256(splits: Sequence[UserSplit]) -> str:
    """Hash every user's id, history and targets."""
    digest = hashlib.sha256()
    for user in splits:
        digest.update(json.dumps(user.user_id).encode())
        for part in (user.train.items, user.validation.items, user.test.items):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
    return digest.hexdigest()


def write_per_user(folder: Path, ground: Ground, rows: Sequence[EvaluatedRow]) -> None:
    """Write the file into a run's folder, whole or not at all.

    Args:
        folder: the run's.
        ground: what `rows` were evaluated on.
        rows: the model first; all hold the same users in the same order.

    Raises:
        RunFolderError: the file system refuses.
    """
    columns: dict[str, object] = {
        "row": np.repeat(np.arange(len(rows), dtype=np.int32), ground.users),
        "user": np.tile(np.arange(ground.users, dtype=np.int32), len(rows)),
    }
    for name in METRIC_NAMES:
        columns[name] = np.concatenate([row.metrics.metric(name) for row in rows])
    description = versioned(
        {
            "lab_only": True,
            "ground": asdict(ground),
            "rows": [
                {"name": r.name, "kind": r.kind, "mode": r.mode, "epsilon": r.epsilon} for r in rows
            ],
        }
    )
    table = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(description).encode()})
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    write_bytes(folder / PER_USER_FILE, content.getvalue())


def read_per_user(folder: Path) -> PerUserFile:
    """Return what `write_per_user` wrote into a run's folder.

    Raises:
        RunFolderError: the file is missing, damaged or of another version.
    """
    path = folder / PER_USER_FILE
    if not path.is_file():
        raise RunFolderError(
            f"{folder} has no {PER_USER_FILE}, so its users cannot be compared; run it again with "
            "evaluation.lab=true"
        )
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        table = pq.read_table(io.BytesIO(content))
        description = json.loads((table.schema.metadata or {})[_METADATA])
    except (pa.ArrowException, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RunFolderError(f"{path} is damaged: {reason}; run the run again") from error
    check_version(path, description)
    return _from_table(path, table, description)


def _from_table(path: Path, table: pa.Table, description: Mapping[str, object]) -> PerUserFile:
    try:
        ground = Ground(**description["ground"])  # type: ignore[arg-type]  # checked by use
        kinds: list[dict[str, object]] = list(description["rows"])  # type: ignore[call-overload]
        shape = (len(kinds), ground.users)
        values = {
            name: table.column(name).to_numpy().astype(np.float64).reshape(shape)
            for name in METRIC_NAMES
        }
        rows = tuple(
            UserRow(metrics={name: values[name][n] for name in METRIC_NAMES}, **kind)  # type: ignore[arg-type]
            for n, kind in enumerate(kinds)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path} is damaged: {error}; run the run again") from error
    if not rows or not all(np.isfinite(values[name]).all() for name in METRIC_NAMES):
        raise RunFolderError(f"{path} is damaged: it lacks finite values; run the run again")
    return PerUserFile(ground, rows)

"""What is compared: a run, or the runs of a sweep's point over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.metrics import METRIC_NAMES
from simulations.comparison.per_user_file import Ground, UserRow, read_per_user
from simulations.report.metrics_file import RowKind


@dataclass(frozen=True)
class SeededRow:
    """One evaluated row over S seeds: float64[S, U] of each metric."""

    name: str
    kind: RowKind
    mode: str
    epsilon: float | None
    metrics: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Entry:
    """One thing to compare.

    Attributes:
        label: as printed.
        grounds: what each of the S seeds was evaluated on.
        rows: the model first, then every other row that all seeds have.
    """

    label: str
    grounds: tuple[Ground, ...]
    rows: tuple[SeededRow, ...]

    @property
    def model(self) -> SeededRow:
        """The row of the trained model."""
        return self.rows[0]

    def of_kind(self, *kinds: RowKind) -> list[SeededRow]:
        """Return the rows of these kinds."""
        return [row for row in self.rows if row.kind in kinds]

    def at(self, seeds: Sequence[int]) -> Entry:
        """Return the entry with some of its seeds, by their place."""
        places = list(seeds)
        rows = [
            SeededRow(
                row.name,
                row.kind,
                row.mode,
                row.epsilon,
                {name: values[places] for name, values in row.metrics.items()},
            )
            for row in self.rows
        ]
        return Entry(self.label, tuple(self.grounds[place] for place in places), tuple(rows))


def read_entry(label: str, folders: Sequence[Path]) -> Entry:
    """Read the runs of one configuration, one per seed.

    Args:
        label: as printed.
        folders: at least one run's.

    Raises:
        RunFolderError: a run has no metrics of its users.
        DataError: the runs are of different users, data or kinds.
    """
    files = [read_per_user(folder) for folder in folders]
    first = files[0].ground
    for folder, file in zip(folders, files, strict=True):
        mine = file.ground
        if (mine.dataset, mine.split, mine.stage, mine.users) != (
            first.dataset,
            first.split,
            first.stage,
            first.users,
        ):
            raise DataError(
                f"{folder} cannot be averaged with {folders[0]}: {first.difference(mine)}; "
                "average runs of one data set and split"
            )
    by_name = [{(row.kind, row.name): row for row in file.rows} for file in files]
    shared = [
        key
        for key in ((row.kind, row.name) for row in files[0].rows)
        if all(key in rows for rows in by_name)
    ]
    if not shared or shared[0] != (files[0].rows[0].kind, files[0].rows[0].name):
        raise DataError(
            f"the runs of {label} are of different models ({files[0].rows[0].name}, …); "
            "average runs of one configuration"
        )
    rows = [_seeded([rows[key] for rows in by_name]) for key in shared]
    return Entry(label, tuple(file.ground for file in files), tuple(rows))


def _seeded(rows: Sequence[UserRow]) -> SeededRow:
    first = rows[0]
    metrics = {name: np.stack([row.metrics[name] for row in rows]) for name in METRIC_NAMES}
    return SeededRow(first.name, first.kind, first.mode, first.epsilon, metrics)

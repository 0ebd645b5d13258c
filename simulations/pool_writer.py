"""Writes a pooled federation (`common.pooled_sites`), some whole sites at a time."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from common.pooled_sites import INDEX, INDEX_FILE, PoolManifest
from common.site_folder import INTERACTIONS_FILE, POOL_FILE, USERS_FILE, write_manifest

ROW_GROUP_ROWS = 2048
"""Interactions in a row group, or one site's where it has more: what is decoded for a site."""


class PoolWriter:
    """Writes a pool, some whole sites at a time; the end of its block makes it readable."""

    def __init__(self, folder: Path, dataset: str, catalogue_sha256: str, min_interactions: int):
        """Binds the writer to an existing folder, which also gets the catalogue by its maker."""
        self._folder = folder
        self._about = (dataset, catalogue_sha256, min_interactions)
        self._files: dict[str, pq.ParquetWriter] = {}
        self._index: list[npt.NDArray[Any]] = []
        self._groups = 0

    def add(
        self,
        interactions: pa.Table,
        users: pa.Table,
        *,
        rows: npt.NDArray[np.int64],
        users_of_site: npt.NDArray[np.int64],
        examples: npt.NDArray[np.int64],
    ) -> None:
        """Appends the next S sites.

        Args:
            interactions: their rows, site after site.
            users: their users, site after site.
            rows: ``[S]``, interactions of each site.
            users_of_site: ``[S]``.
            examples: ``[S]``, what each site declares.
        """
        ends, user_ends = np.cumsum(rows), np.cumsum(users_of_site)
        first = 0
        while first < len(rows):
            start, user_start = (int(e[first - 1]) if first else 0 for e in (ends, user_ends))
            last = int(np.searchsorted(ends, start + ROW_GROUP_ROWS, side="right"))
            last = max(last, first + 1)  # a site that is longer has a row group of its own
            here = slice(first, last)
            place = np.zeros(last - first, dtype=INDEX)
            place["group"] = self._groups
            place["rows"], place["users"] = rows[here], users_of_site[here]
            place["row"] = ends[here] - rows[here] - start
            place["user_row"] = user_ends[here] - users_of_site[here] - user_start
            place["examples"] = np.maximum(1, examples[here])
            self._index.append(place)
            for name, table, begin, end in (
                (INTERACTIONS_FILE, interactions, start, int(ends[last - 1])),
                (USERS_FILE, users, user_start, int(user_ends[last - 1])),
            ):
                group = table.slice(begin, end - begin)
                self._file(name, group.schema).write_table(group, row_group_size=max(len(group), 1))
            self._groups += 1
            first = last

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the files, and writes index and manifest where nothing went wrong."""
        for file in self._files.values():
            file.close()
        if kind is None:
            self._finish()

    def _finish(self) -> None:
        index = np.concatenate([np.zeros(0, dtype=INDEX), *self._index])
        np.save(self._folder / INDEX_FILE, index, allow_pickle=False)
        dataset, catalogue_sha256, min_interactions = self._about
        manifest = PoolManifest(
            dataset=dataset,
            catalogue_sha256=catalogue_sha256,
            sites=len(index),
            min_interactions=min_interactions,
        )
        write_manifest(self._folder / POOL_FILE, manifest)

    def _file(self, name: str, schema: pa.Schema) -> pq.ParquetWriter:
        if name not in self._files:
            self._files[name] = pq.ParquetWriter(self._folder / name, schema)
        return self._files[name]

"""Parquet files, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from client.source.files import check_names, existing, readable
from client.source.settings import Connection, InteractionsTable, ItemsTable, UsersTable


class ParquetSource:
    """Tables in Parquet files; one row group is decoded at a time."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        """Opens nothing yet."""
        self._connection, self._folder = connection, folder

    def tables(
        self,
        part: str,
        place: InteractionsTable | UsersTable | ItemsTable,
        *,
        since: int | None = None,
        limit: int | None = None,
    ) -> Iterator[pa.Table]:
        """See `client.source.reading.Source`; all rows are read, whatever `since`."""
        path = existing(part, self._folder, place.file)
        rows = min(self._connection.batch_rows, limit or self._connection.batch_rows)
        with readable(part, "Parquet"), pq.ParquetFile(path) as file:
            check_names(part, file.schema_arrow.names, place.columns, shown=True)
            left = limit
            batches = file.iter_batches(rows, columns=list(place.columns), use_threads=False)
            for batch in batches:
                table = pa.Table.from_batches([batch])
                yield table if left is None else table.slice(0, left)
                left = None if left is None else left - table.num_rows
                if left is not None and left <= 0:
                    return

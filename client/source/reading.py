"""Opens a site's source and reads its tables in numbered, filtered batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from client.source.csv_files import CsvSource
from client.source.filters import filtered
from client.source.parquet_files import ParquetSource
from client.source.places import Batch
from client.source.settings import InteractionsTable, ItemsTable, SourceSettings, UsersTable
from common.errors import ConfigError

SourceTable = InteractionsTable | UsersTable | ItemsTable


class Source(Protocol):
    """What each kind of source does: one of its tables in Arrow batches."""

    def tables(
        self, part: str, place: SourceTable, *, since: int | None = None, limit: int | None = None
    ) -> Iterator[pa.Table]:
        """The columns `place.columns`, in the source's order.

        Args:
            part: the section of ``source.toml``, for messages.
            place: its settings.
            since: unix seconds; interactions before may be left out.
            limit: rows to read at most.

        Raises:
            DataError: the table cannot be read.
        """


@contextmanager
def open_source(settings: SourceSettings, folder: Path) -> Iterator[Source]:
    """The source, open; of a database, everything is read in one consistent snapshot.

    Args:
        settings: what ``source.toml`` says.
        folder: the site's, which relative paths begin at.

    Raises:
        ConfigError: the password is not there, or the libraries for databases are not.
        DataError: the source cannot be opened.
    """
    if settings.source.kind == "csv":
        yield CsvSource(settings.source, folder)
    elif settings.source.kind == "parquet":
        yield ParquetSource(settings.source, folder)
    else:
        try:
            from client.source.sql import open_database
        except ModuleNotFoundError:
            raise ConfigError(
                ["source.kind = sql needs SQLAlchemy and psycopg; pip install 'fedrec[sql]'"]
            ) from None
        with open_database(settings.source, folder, settings.interactions) as database:
            yield database


def read_batches(
    source: Source,
    part: str,
    place: SourceTable,
    *,
    since: int | None = None,
    limit: int | None = None,
) -> Iterator[Batch]:
    """The rows that the filters keep, numbered as the source has them.

    Raises:
        DataError: the table cannot be read, or a value cannot be compared.
    """
    read = 0
    for table in source.tables(part, place, since=since, limit=limit):
        rows = np.arange(read + 1, read + table.num_rows + 1, dtype=np.int64)
        read += table.num_rows
        yield filtered(Batch(part, table, rows), place.filters)

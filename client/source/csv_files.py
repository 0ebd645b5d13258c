"""CSV files, block by block. Every value stays text, so that an id such as ``007`` is kept."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from client.source.files import check_names, existing, readable
from client.source.places import casts, first_bad_cast, refuse
from client.source.settings import Connection, InteractionsTable, ItemsTable, UsersTable
from common.errors import DataError

_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
BLOCK_BYTES = 1 << 22
"""Of text in memory at a time; no row may be longer."""


class CsvSource:
    """Tables in CSV files."""

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
        with readable(part, "CSV"):
            names, lines = self._header(part, path)
            check_names(part, names, place.columns, shown=False)
            read = 0
            for batch in self._blocks(part, path, names, lines, place.columns):
                for table in _pieces(batch, self._connection.batch_rows, limit, read):
                    yield self._decoded(part, table, read)
                    read += table.num_rows
                if limit is not None and read >= limit:
                    return

    def _header(self, part: str, path: Path) -> tuple[list[str], int]:
        """The columns' names, and how many lines the header takes."""
        encoding = self._connection.encoding
        marked = "utf-8-sig" if encoding == "utf-8" else encoding
        with path.open(encoding=marked, errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter=self._connection.delimiter)
            try:
                names = next(reader, [])
            except csv.Error:
                raise DataError(f"{part}: its header cannot be parsed; correct it") from None
        if any("\ud800" <= char <= "\udfff" for name in names for char in name):
            raise DataError(
                f"{part}: its header is not {encoding} text; save the file as UTF-8, or set "
                "source.encoding"
            )
        if not any(name.strip() for name in names):
            raise DataError(f"{part}: its file has no header; the first line must name the columns")
        return names, reader.line_num

    def _blocks(
        self, part: str, path: Path, names: Sequence[str], lines: int, wanted: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        places = [f"{index}" for index in range(len(names))]  # a name may stand there twice
        by_name = {name: place for name, place in zip(names, places, strict=True)}
        try:
            reader = pa_csv.open_csv(
                path,
                read_options=pa_csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=places, skip_rows=lines
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._connection.delimiter,
                    newlines_in_values=True,
                    ignore_empty_lines=len(names) > 1,
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(places, pa.binary()),
                    include_columns=[by_name[name] for name in wanted],
                    strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield batch.rename_columns(list(wanted))
        except pa.ArrowInvalid as error:
            ragged = _RAGGED.search(str(error))
            if ragged:
                row, expected, found = map(int, ragged.groups())
                raise DataError(
                    f"{part}: row {row - lines} has {found} fields and the header {expected}; "
                    "correct that line, or a quote that is never closed"
                ) from None
            if "Empty CSV file" in str(error):
                return
            raise DataError(
                f"{part}: its file cannot be parsed as CSV, after its header; look for a quote "
                "that is never closed, or a row of more than 4 MiB"
            ) from None

    def _decoded(self, part: str, table: pa.Table, before: int) -> pa.Table:
        """The bytes as text, of the encoding that the settings name."""
        columns = {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            array = column.combine_chunks()
            if self._connection.encoding != "utf-8":
                array = _recoded(array, self._connection.encoding)
            if not casts(array, pa.string()):
                row = before + first_bad_cast(array, pa.string()) + 1
                what = f"is not {self._connection.encoding} text"
                refuse(part, name, row, what, "save the file as UTF-8, or set source.encoding")
            columns[name] = array.cast(pa.string())
        return pa.table(columns)


def _recoded(array: Any, encoding: str) -> Any:
    """Bytes of an encoding as those of UTF-8; each distinct value is decoded once.

    A byte that the encoding does not have stays, as one that is not UTF-8 either.
    """
    coded = array.dictionary_encode()
    known = []
    for value in coded.dictionary.to_pylist():
        try:
            known.append(value.decode(encoding).encode("utf-8"))
        except UnicodeDecodeError:
            known.append(b"\xff")
    return pa.array(known, pa.binary()).take(coded.indices)


def _pieces(batch: pa.RecordBatch, rows: int, limit: int | None, read: int) -> Iterator[pa.Table]:
    """A block in pieces of at most `rows` rows, and no more than are left of `limit`."""
    end = batch.num_rows if limit is None else min(batch.num_rows, limit - read)
    for start in range(0, end, rows):
        yield pa.Table.from_batches([batch.slice(start, min(rows, end - start))])

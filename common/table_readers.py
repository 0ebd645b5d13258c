"""Reads a table file (CSV, TSV, RecBole's typed TSV, Parquet) into an Arrow table.

Values of untyped text files stay text, so that an id such as ``007`` is not turned into a
number; `common.interactions` converts and checks each column. RecBole's files carry types
in the header (``user_id:token``, ``rating:float``, ``title:token_seq``).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from common.column_checks import SOURCE_KEY, read_numbers
from common.errors import DataError

TYPED_SUFFIXES = (".inter", ".item", ".user")
GRAPH_SUFFIXES = (".kg", ".link")
SUFFIXES = (".csv", ".tsv", *TYPED_SUFFIXES, ".parquet")
TYPES = ("token", "token_seq", "float")


def read_table(path: Path, *, columns: Mapping[str, str] | None = None) -> pa.Table:
    """Read one file; its name travels in the table's metadata, for messages.

    Args:
        path: A file ending in ``.csv``, ``.tsv``, ``.inter``, ``.item``, ``.user``,
            ``.kg``, ``.link`` or ``.parquet``. Text must be UTF-8; its first line names the
            columns.
        columns: Canonical name → the column's name in the file, e.g.
            ``{"user_id": "userId"}``. Other columns keep their names.

    Raises:
        DataError: The file is missing, unreadable, damaged, ragged or has a wrong header.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    if path.suffix not in (*SUFFIXES, *GRAPH_SUFFIXES):
        raise DataError(f"{path}: unknown kind of table; use one of {', '.join(SUFFIXES)}")
    try:
        table = _read(path)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, f"byte 0x{error.object[error.start]:02x}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({_one_line(error)}); check the file") from error
    renamed = table.rename_columns(_new_names(path, table.column_names, columns or {}))
    return renamed.replace_schema_metadata({SOURCE_KEY: str(path).encode()})


def _read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return _read_parquet(path)
    return _read_text(path, "," if path.suffix == ".csv" else "\t")


def _read_parquet(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{path}: not a Parquet file ({_one_line(error)}); write it anew"
        ) from error


def _read_text(path: Path, delimiter: str) -> pa.Table:
    header = _header(path, delimiter)
    ragged: list[str] = []

    def on_ragged(row: Any) -> str:
        ragged.append(
            f"line {row.number} has {row.actual_columns} fields, the header has "
            f"{row.expected_columns}"
        )
        return "error"

    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(use_threads=False),
            parse_options=_parse_options(delimiter, on_ragged),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in header}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if ragged:
            raise DataError(f"{path}: {ragged[0]}; correct the line") from error
        if "UTF8" in str(error):
            raise _not_utf8(path, _one_line(error)) from error
        raise DataError(f"{path}: cannot be parsed ({_one_line(error)}); correct it") from error
    return _apply_types(table, path)


def _parse_options(delimiter: str, on_ragged: Callable[[Any], str]) -> Any:
    # Titles in TSV files may hold single quotes, so only CSV knows quoting.
    quoted = delimiter == ","
    return pa_csv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoted else False,
        newlines_in_values=quoted,
        invalid_row_handler=on_ragged,
    )


def _header(path: Path, delimiter: str) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            if delimiter == ",":
                header = next(csv.reader(file), [])
            else:
                header = file.readline().rstrip("\r\n").split(delimiter)
        except csv.Error as error:
            raise DataError(f"{path}: header cannot be parsed ({error}); correct it") from error
    if not any(name.strip() for name in header):
        raise DataError(f"{path}: has no header line; the first line must name the columns")
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        raise DataError(f"{path}: header names {repeated[0]!r} twice; rename one of them")
    return header


def _apply_types(table: pa.Table, path: Path) -> pa.Table:
    """Convert the columns of a typed header; leave an untyped table as it is."""
    typed = [":" in name for name in table.column_names]
    if not any(typed) and path.suffix not in (*TYPED_SUFFIXES, *GRAPH_SUFFIXES):
        return table
    columns: dict[str, Any] = {}
    for name in table.column_names:
        plain, _, kind = name.rpartition(":")
        if kind not in TYPES or not plain:
            remedy = f"write each column as name:type with a type of {', '.join(TYPES)}"
            raise DataError(f"{path}: header has {name!r}; {remedy}")
        if plain in columns:
            raise DataError(f"{path}: header names {plain!r} twice; rename one of them")
        columns[plain] = _convert(table, name, kind, str(path))
    return pa.table(columns)


def _convert(table: pa.Table, name: str, kind: str, where: str) -> Any:
    if kind == "float":
        return pa.array(read_numbers(table, name, where)) if table.num_rows else pa.array([])
    column = table.column(name)
    return pc.split_pattern(column, " ") if kind == "token_seq" else column


def _new_names(path: Path, names: list[str], columns: Mapping[str, str]) -> list[str]:
    missing = [source for source in columns.values() if source not in names]
    if missing:
        remedy = "correct the column mapping"
        raise DataError(f"{path}: no column {missing[0]!r}; it has {', '.join(names)}; {remedy}")
    canonical = {source: name for name, source in columns.items()}
    # A mapped name displaces a column that already carries it.
    return [canonical.get(n, f"{n} (unmapped)" if n in columns else n) for n in names]


def _not_utf8(path: Path, detail: str) -> DataError:
    return DataError(f"{path}: not UTF-8 text ({detail}); save it as UTF-8")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

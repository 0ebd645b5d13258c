"""CSV comes back as it was written, whatever stands in it, and never in one piece."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.source import csv_files
from client.source.csv_files import CsvSource
from client.source.reading import read_batches
from client.source.settings import Connection, Encoding, UsersTable
from common.errors import DataError
from tests.site_sources import write_csv

NAMES = ("user", "note", "more")
PLACE = UsersTable.model_construct(
    file="t.csv", user_id="user", attributes={"a": "note", "b": "more"}, filters=()
)
# A NUL cannot stand in a text file, and Python's csv turns a lone \r into an end of line.
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=12)
ROWS = st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=20)


def read(folder: Path, limit: int | None = None, **options: Any) -> list[list[str]]:
    connection = Connection(kind="csv", **options)
    batches = list(read_batches(CsvSource(connection, folder), "users", PLACE, limit=limit))
    rows = [row for batch in batches for row in batch.rows.tolist()]
    assert rows == list(range(1, len(rows) + 1))
    assert all(len(batch.rows) <= connection.batch_rows for batch in batches)
    return [list(row.values()) for batch in batches for row in batch.table.to_pylist()]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS, delimiter=st.sampled_from(",;\t|"), batch_rows=st.integers(1, 7))
def test_any_text_comes_back(
    rows: list[tuple[str, str, str]], delimiter: str, batch_rows: int, tmp_path: Path
) -> None:

    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([NAMES, *rows])
    found = read(tmp_path, delimiter=delimiter, batch_rows=batch_rows)
    assert found == [list(row) for row in rows]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"user,note,more\n" + content)
    said = ""
    try:
        read(tmp_path)
    except DataError as error:
        said = str(error)
    assert "\n" not in said
    assert said.isascii()


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_encodings(encoding: str, tmp_path: Path) -> None:
    rows = [["user", "note", "more"], ["1", "Käse", "Ünlü"], ["2", "Ä", ""]]
    write_csv(tmp_path / "t.csv", rows, encoding)
    assert read(tmp_path, encoding=encoding) == rows[1:]


def test_a_mark_at_the_start_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(codecs.BOM_UTF8 + b"user,note,more\na,b,c\n")
    assert read(tmp_path) == [["a", "b", "c"]]


def test_a_header_over_two_lines_and_a_byte_that_cp1252_lacks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'"un\nread",user,note,more\nx,1,a,b\nx,2,\x81,b\n')
    with pytest.raises(DataError, match="`note` is not cp1252 text in row 2"):
        read(tmp_path, encoding="cp1252")
    assert read(tmp_path, encoding="latin-1")[0] == ["1", "a", "b"]


def test_rows_are_numbered_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 64)
    rows = [["user", "note", "more"], *([f"u{n}", "x" * (n % 9), "y"] for n in range(100))]
    write_csv(tmp_path / "t.csv", rows)
    assert read(tmp_path) == rows[1:]
    assert read(tmp_path, limit=10) == rows[1:11]
    rows[77].append("canary")
    write_csv(tmp_path / "t.csv", rows)
    with pytest.raises(DataError, match="row 77 has 4 fields and the header 3"):
        read(tmp_path)
    rows[77] = ["u", "x" * 1000, "y"]
    write_csv(tmp_path / "t.csv", rows)
    with pytest.raises(DataError, match="cannot be parsed as CSV"):
        read(tmp_path)


def test_a_column_twice(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,note,more,note\na,b,c,d\n")
    with pytest.raises(DataError, match="column note stands there twice"):
        read(tmp_path)

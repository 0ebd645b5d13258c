"""Readers: RecBole's typed headers, mappings, and one clear line for each broken file."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import DataError
from common.interactions import build_dataset
from common.table_readers import read_table


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def test_csv_keeps_ids_as_text(write):
    table = read_table(write("t.csv", 'user_id,text\n007,"a, ""b""\nc"\n7,\n'))
    assert table.to_pydict() == {"user_id": ["007", "7"], "text": ['a, "b"\nc', ""]}


def test_byte_order_mark_is_no_part_of_the_header(write):
    table = read_table(write("t.csv", b"\xef\xbb\xbfuser_id,x\n1,2\n"))
    assert table.column_names == ["user_id", "x"]


def test_recbole_types(write):
    path = write(
        "t.item",
        'item_id:token\ttitle:token_seq\tscore:float\n01\tIt\'s "A" Film\t1.5\n2\tB\t-2\n',
    )
    assert read_table(path).to_pydict() == {
        "item_id": ["01", "2"],
        "title": [["It's", '"A"', "Film"], ["B"]],
        "score": [1.5, -2.0],
    }


def test_tsv_may_be_untyped(write):
    assert read_table(write("t.tsv", "a\tb\n1\t2\n")).to_pydict() == {"a": ["1"], "b": ["2"]}


def test_parquet_round_trip(tmp_path):
    table = pa.table({"user_id": [1, 2], "tags": [["x"], []]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").to_pydict() == table.to_pydict()


def test_mapping_renames_and_displaces(write):
    path = write("t.csv", "id,text,title\n1,old,new\n")
    table = read_table(path, columns={"item_id": "id", "text": "title"})
    assert table.to_pydict() == {"item_id": ["1"], "text (unmapped)": ["old"], "text": ["new"]}


def test_later_checks_name_the_file_and_row(write):
    items = read_table(write("items.csv", "item_id,text\na,A\n"))
    path = write("events.csv", "user_id,item_id,timestamp\nu,a,1\nu,a,soon\n")
    with pytest.raises(DataError) as caught:
        build_dataset("t", read_table(path), items, None, min_interactions=3)
    assert str(caught.value).startswith(
        f"{path}: `timestamp` must be a number, got 'soon' in row 2;"
    )


BROKEN = {
    "ragged csv": ("t.csv", "a,b\n1,2\n3\n", "line 3 has 1 fields, the header has 2"),
    "ragged tsv": ("t.tsv", "a\tb\n1\t2\t3\n", "line 2 has 3 fields, the header has 2"),
    "latin-1 value": ("t.csv", b"a,b\n1,\xe9\n", "not UTF-8 text"),
    "latin-1 header": ("t.csv", b"a,\xe9\n1,2\n", "not UTF-8 text (byte 0xe9)"),
    "empty file": ("t.csv", "", "has no header line"),
    "blank header": ("t.csv", "\n1,2\n", "has no header line"),
    "repeated column": ("t.csv", "a,a\n1,2\n", "header names 'a' twice"),
    "untyped recbole": ("t.inter", "user_id\titem_id\n1\t2\n", "header has 'user_id'; write each"),
    "half typed": ("t.tsv", "user_id:token\titem_id\n1\t2\n", "header has 'item_id'"),
    "unknown type": ("t.item", "a:number\n1\n", "header has 'a:number'"),
    "repeated typed column": ("t.item", "a:token\ta:float\n1\t2\n", "header names 'a' twice"),
    "wrong float": ("t.inter", "a:token\tb:float\n1\tx\n", "`b:float` must be a number, got 'x'"),
    "not parquet": ("t.parquet", "a,b\n1,2\n", "not a Parquet file"),
    "unknown suffix": ("t.xlsx", "a", "unknown kind of table; use one of .csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_give_one_clear_line(case, write):
    name, content, what = BROKEN[case]
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_parquet_is_an_error(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a Parquet file"):
        read_table(path)


def test_missing_file_and_wrong_mapping(write, tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="no column 'userId'; it has a, b"):
        read_table(write("t.csv", "a,b\n1,2\n"), columns={"user_id": "userId"})

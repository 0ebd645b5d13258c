"""Times, numbers, ids and filters: right values, and faults that show none."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.source.columns import read_ids, read_labels, read_numbers, read_words
from client.source.filters import filtered
from client.source.places import Batch
from client.source.pseudonyms import Pseudonyms
from client.source.settings import Filter
from client.source.text_template import fill_template, parse_template, template_columns
from client.source.times import Clock, read_times
from common.errors import DataError

NOW = 2_000_000_000.0


def batch(values: Any, kind: Any = None) -> Batch:
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    rows = np.arange(11, 11 + len(array), dtype=np.int64)
    return Batch("interactions", pa.table({"c": array}), rows)


def times(values: Any, form: str = "auto", zone: str = "UTC", kind: Any = None) -> list[int]:
    return read_times(batch(values, kind), "c", Clock(form, zone, NOW)).tolist()


MOMENT = st.datetimes(datetime(1970, 1, 2), datetime(2033, 1, 1)).map(
    lambda found: found.replace(microsecond=0, tzinfo=UTC)
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])


@settings(max_examples=10, deadline=None)
@given(moments=st.lists(MOMENT, min_size=1, max_size=5), zone=ZONES, other=ZONES)
def test_times_in_every_form(moments: list[datetime], zone: str, other: str) -> None:
    seconds = [int(moment.timestamp()) for moment in moments]
    abroad = [moment.astimezone(ZoneInfo(other)) for moment in moments]
    assert times(seconds) == times([str(each) for each in seconds]) == seconds
    assert times([each * 1000 + 999 for each in seconds], "unix_ms") == seconds
    assert times([each.isoformat() for each in abroad], "iso", zone) == seconds
    assert times([each.isoformat(" ") for each in abroad], "iso", zone) == seconds
    assert times([f"{m:%Y-%m-%dT%H:%M:%S}.5Z" for m in moments], "iso", zone) == seconds
    assert times(moments, kind=pa.timestamp("us", "UTC"), zone=zone) == seconds
    local = [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]
    # As Python reads an hour that comes twice: the first of the two.
    expected = [int(each.replace(tzinfo=ZoneInfo(zone)).timestamp()) for each in local]
    assert times(local, zone=zone) == expected
    assert times([each.isoformat() for each in local], "iso", zone) == expected
    shown = [f"{each:%d.%m.%Y %H:%M:%S}" for each in local]
    assert times(shown, "%d.%m.%Y %H:%M:%S", zone) == expected


def test_dates_and_mixed_offsets() -> None:
    assert times([date(1970, 1, 2)]) == [86_400]
    assert times([date(1970, 1, 2)], zone="Asia/Kolkata") == [86_400 - 19_800]
    mixed = ["1970-01-02T00:00:00Z", "1970-01-02 01:00:00+01", "1970-01-02", "1970-01-02 00:00"]
    assert times(mixed, "iso") == [86_400] * 4


@pytest.mark.parametrize(
    ("values", "form", "said"),
    [
        (["2020-01-01", "canary"], "iso", "is no time of time_format = iso in row 12"),
        (["2020-01-01", ""], "iso", "has no time in row 12"),
        (["2020-01-01"] * 40 + ["2020-13-01"], "iso", "row 51"),
        (["01.02.2020", "01/02/2020"], "%d.%m.%Y", "row 12"),
        ([5], "iso", "has type int64; time_format = iso is for text"),
        (["2020-01-01"], "auto", "set time_format"),
        ([datetime(2020, 1, 1), None], "auto", "has no time in row 12"),
        ([NOW + 90_000.0], "auto", "in the future by 2 days"),
        ([-5], "unix", "before 1970 in row 11"),
        ([10**12], "unix", "set time_format = unix_ms"),
        ([True], "auto", "must hold numbers, it has type bool"),
    ],
)
def test_faults_of_times(values: list[Any], form: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        times(values, form)
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)


def test_ids_of_every_sort() -> None:
    assert read_ids(batch(["007", "x"]), "c").to_pylist() == ["007", "x"]
    assert read_ids(batch([7, -1]), "c").to_pylist() == ["7", "-1"]
    big = 10**20
    assert read_ids(batch([Decimal(big), Decimal(7)]), "c").to_pylist() == [str(big), "7"]
    assert read_ids(batch([Decimal("7.00")]), "c").to_pylist() == ["7"]
    for values in ([Decimal("7.5")], [1.5], [b"canary"], [True]):
        with pytest.raises(DataError, match="must hold ids, it has type"):
            read_ids(batch(values), "c")
    with pytest.raises(DataError, match="has no id in row 11"):
        read_ids(batch([None], pa.null()), "c")


def test_numbers_words_and_labels() -> None:
    assert read_numbers(batch([" 1.5", "2"]), "c").tolist() == [1.5, 2.0]
    assert read_numbers(batch([Decimal("1.5")]), "c").tolist() == [1.5]
    for values, said in (
        (["1", "canary"], "no number in row 12"),
        ([1.0, float("nan")], "no finite number in row 12"),
        ([1, None], "no value in row 12"),
        ([b"canary"], "must hold numbers"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            read_numbers(batch(values), "c")
        assert "canary" not in str(caught.value)
    assert read_words(batch([1, None]), "c") == ["1", ""]
    assert read_words(batch([["a", "b"], None]), "c") == ["a b", ""]
    assert read_labels(batch(["a| b|a|", None]), "c", "|") == [("a", "b"), ()]
    assert read_labels(batch([["a", "b", "a"], []]), "c", "|") == [("a", "b"), ()]


def test_words_of_bytes_are_refused() -> None:
    with pytest.raises(DataError, match="must hold text, it has type struct"):
        read_words(batch([{"a": 1}]), "c")


@pytest.mark.parametrize(
    ("values", "rule", "kept"),
    [
        (["a", "b", None, ""], {"equals": "a"}, [11]),
        (["a", "b", None, ""], {"not_equals": "a"}, [12, 13, 14]),
        (["a", "b", None, ""], {"present": True}, [11, 12]),
        (["a", "b", None, ""], {"present": False}, [13, 14]),
        ([1, 2, None], {"equals": 1}, [11]),
        ([1, 2, None], {"one_of": (2, "1")}, [11, 12]),
        ([1, 2, None], {"at_least": 1.5}, [12]),
        (["1", "2", ""], {"at_least": 1, "at_most": 1}, [11]),
        ([True, False, None], {"equals": True}, [11]),
        (["true", "false"], {"equals": True}, [11]),
        ([1.5, 2.0], {"equals": "2"}, [12]),
        ([1, 2], {"equals": "canary"}, []),
    ],
)
def test_filters(values: list[Any], rule: dict[str, Any], kept: list[int]) -> None:
    found = filtered(batch(values), [Filter(column="c", **rule)])
    assert found.rows.tolist() == kept
    assert found.table.num_rows == len(kept)


def test_a_filter_that_cannot_compare() -> None:
    with pytest.raises(DataError, match="holds no number in row 11"):
        filtered(batch(["canary"]), [Filter(column="c", at_least=1)])
    with pytest.raises(DataError, match="which a filter cannot compare"):
        filtered(batch([datetime(2020, 1, 1)]), [Filter(column="c", equals="x")])


IDS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=12)


@settings(max_examples=15, deadline=None)
@given(ids=IDS, key=st.binary(min_size=32, max_size=32))
def test_pseudonyms_are_one_to_one_and_follow_the_key(ids: list[str], key: bytes) -> None:
    pseudonyms, other = Pseudonyms(key), Pseudonyms(bytes(32 - len(key)) + key[::-1] + b"x")
    found = pseudonyms.digests(pa.array(ids, pa.string()))
    assert found == [pseudonyms.digest(each) for each in ids]
    assert len(set(found)) == len(set(ids))
    assert all(len(each) == 32 for each in found)
    assert pseudonyms.population not in {each.hex() for each in found}
    assert not set(found) & set(other.digests(pa.array(ids, pa.string())))
    assert key.hex() not in repr(pseudonyms)


def test_a_pseudonym_stays_what_it_was() -> None:
    """Known value: tables and ledgers of years depend on it."""
    pseudonyms = Pseudonyms(bytes(range(32)))
    assert pseudonyms.of("alice") == (
        "4dd16b74da6852773d615fc7cfa6334747a2a16fb74d7f79b587b90e1d0aee4a"
    )


def test_templates() -> None:
    pieces = parse_template("{title}. {{{brand}}}")
    assert template_columns("{title}. {{{brand}}}") == ["title", "brand"]
    columns = {"title": ["A  b", ""], "brand": ["x", "y"]}
    assert fill_template(pieces, columns) == ["A b. {x}", ". {y}"]
    for wrong in ("{title", "{}", "{a:>5}", "{a!r}", "}"):
        with pytest.raises(ValueError, match=r".+"):
            parse_template(wrong)

"""Canonical tables: every fault is one clear line, nothing is left out without a count."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import DataError
from common.interactions import Catalogue, Dataset, build_catalogue, build_dataset

ITEMS = pa.table({"item_id": ["a", "b", "c", "d"], "text": ["An A", "A  B", "A C", "A D"]})


def events(**columns: Any) -> pa.Table:
    """Two users with three interactions each; `columns` replace or add columns."""
    rows = {
        "user_id": ["u1", "u1", "u1", "u2", "u2", "u2"],
        "item_id": ["a", "b", "c", "b", "c", "d"],
        "rating": [1.0, 2.0, 3.0, 4.0, 5.0, 1.0],
        "timestamp": [10, 20, 30, 40, 50, 60],
    }
    return pa.table({k: v for k, v in {**rows, **columns}.items() if v is not None})


def build(
    table: pa.Table,
    items: pa.Table | Catalogue = ITEMS,
    users: pa.Table | None = None,
    least: int = 3,
) -> Dataset:
    return build_dataset("test", table, items, users, min_interactions=least)


def test_canonical_tables_hold_what_was_given():
    users = pa.table({"user_id": ["u2", "u1"], "gender": ["F", "M"], "age": [30, 40]})
    data = build(events(), users=users)
    assert data.interactions.user_ids == ("u1", "u2")
    assert data.interactions.user.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.interactions.item.tolist() == [0, 1, 2, 1, 2, 3]
    assert data.interactions.rating.dtype == np.float32
    assert data.interactions.timestamp.tolist() == [10, 20, 30, 40, 50, 60]
    assert data.users.attributes == {"gender": ("M", "F"), "age": ("40", "30")}
    assert data.catalogue.texts == ("An A", "A B", "A C", "A D")
    assert data.catalogue.genres == ((), (), (), ())
    assert data.report.lines() == [
        "6 of 6 interactions kept",
        "2 of 2 users kept",
        "4 items, 0 without interactions",
    ]


def test_missing_rating_column_means_one():
    assert build(events(rating=None)).interactions.rating.tolist() == [1.0] * 6


def test_numeric_users_are_in_numeric_order():
    data = build(events(user_id=[10, 10, 10, 9, 9, 9]))
    assert data.interactions.user_ids == ("9", "10")


def test_text_numbers_are_converted():
    data = build(events(rating=[" 1", "2.5", "3", "4", "5", "1"], timestamp=list("123456")))
    assert data.interactions.rating.tolist() == [1.0, 2.5, 3.0, 4.0, 5.0, 1.0]
    assert data.interactions.timestamp.tolist() == [1, 2, 3, 4, 5, 6]


def test_arrow_times_and_dates_become_seconds():
    moment = datetime.datetime(1998, 1, 1, tzinfo=datetime.UTC)
    times = pa.array([moment] * 6, pa.timestamp("ms", tz="UTC"))
    dates = pa.array([datetime.date(1998, 1, 1)] * 6)
    for column in (times, dates):
        assert set(build(events(timestamp=column)).interactions.timestamp) == {883_612_800}


def test_repeated_pairs_keep_the_earliest_and_are_counted():
    table = events(
        user_id=["u1"] * 6,
        item_id=["a", "b", "a", "c", "a", "d"],
        timestamp=[30, 40, 10, 50, 20, 60],
    )
    data = build(table)
    assert data.report.duplicate_rows == 2
    first = data.interactions.item.tolist().index(0)
    assert data.interactions.timestamp[first] == 10
    assert data.interactions.rating[first] == 3.0
    assert "2 rows left out: repeated (user, item), the earliest stays" in data.report.lines()


def test_repeats_at_the_same_time_do_not_follow_the_order_of_rows():
    table = events(
        user_id=["u"] * 6, item_id=["a", "b", "c", "d", "a", "b"], timestamp=[7, 1, 2, 3, 7, 7]
    )
    for rows in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]):
        data = build(table.take(rows).set_column(2, "rating", table.column("rating").take(rows)))
        kept = data.interactions
        assert kept.rating[kept.item == 0].tolist() == [1.0]


def test_unknown_items_are_left_out_and_counted():
    table = events(item_id=["a", "b", "c", "x", "y", "x"])
    data = build(table)
    assert data.interactions.user_ids == ("u1",)
    assert (data.report.unknown_item_rows, data.report.unknown_items) == (3, 2)
    assert (data.report.users_of_unknown_items, data.report.short_users) == (1, 0)
    assert "3 rows left out: item not in the catalogue (2 items)" in data.report.lines()


def test_short_users_are_left_out_and_counted_after_duplicates():
    table = events(item_id=["a", "b", "c", "b", "b", "d"])
    data = build(table)
    assert data.interactions.user_ids == ("u1",)
    assert (data.report.short_users, data.report.short_user_rows) == (1, 2)
    assert "1 users left out: fewer than 3 interactions (2 rows)" in data.report.lines()


def test_fractional_seconds_are_cut_and_counted():
    data = build(events(timestamp=[1.0, 2.5, 3.0, 4.0, 5.0, 6.25]))
    assert data.interactions.timestamp.tolist() == [1, 2, 3, 4, 5, 6]
    assert data.report.fractional_timestamps == 2


def test_users_table_mismatches_are_counted():
    users = pa.table({"user_id": ["u1", "u7", "u8"], "gender": ["M", "F", "F"]})
    data = build(events(), users=users)
    assert data.users.attributes["gender"] == ("M", "unknown")
    assert data.report.users_without_attributes == 1
    assert data.report.users_without_interactions == 2


def test_genres_come_from_lists_and_from_text():
    lists = ITEMS.append_column("genres", pa.array([["x", "y"], [], None, ["x", "x", " "]]))
    text = ITEMS.append_column("genres", pa.array(["x|y", "", None, "x|x| "]))
    for table in (lists, text):
        assert build_catalogue(table).genres == (("x", "y"), (), (), ("x",))


def test_text_from_words_is_joined():
    words = pa.array([["An", "A"], ["A", "B"], ["A", "C"], ["A", "D"]])
    assert build_catalogue(ITEMS.set_column(1, "text", words)).texts == (
        "An A",
        "A B",
        "A C",
        "A D",
    )


def test_catalogue_hash_depends_on_order_ids_and_texts():
    catalogue = build_catalogue(ITEMS)
    hashes = {
        catalogue.sha256,
        build_catalogue(ITEMS.take([1, 0, 2, 3])).sha256,
        build_catalogue(ITEMS.set_column(1, "text", pa.array(["x", "A B", "A C", "A D"]))).sha256,
        build_catalogue(ITEMS.set_column(0, "item_id", pa.array(["a", "b", "c", "e"]))).sha256,
    }
    assert len(hashes) == 4
    assert build_catalogue(ITEMS).sha256 == catalogue.sha256


NAN, INF = float("nan"), float("inf")
T = [10, 20, 30, 40, 50]
BAD_EVENTS = {
    "negative time": ({"timestamp": [*T, -1]}, "`timestamp` must be non-negative", "-1 in row 6"),
    "nan time": ({"timestamp": [NAN, *T]}, "`timestamp` must be a finite number", "nan in row 1"),
    "infinite time": ({"timestamp": [*T, INF]}, "`timestamp` must be a finite number", "inf in"),
    "milliseconds": ({"timestamp": [880_000_000_000, *T]}, "unix seconds", "divide milliseconds"),
    "missing time": ({"timestamp": [None, *T]}, "`timestamp`", "a missing value in row 1"),
    "time as words": ({"timestamp": ["1", "x", "3", "4", "5", "6"]}, "be a number", "'x' in row 2"),
    "old date": (
        {"timestamp": [datetime.date(1960, 1, 1)] + [datetime.date(1990, 1, 1)] * 5},
        "`timestamp` must be non-negative",
        "1960-01-01",
    ),
    "boolean time": ({"timestamp": [True] * 6}, "`timestamp` must be numeric", "bool"),
    "nan rating": ({"rating": [1, 2, NAN, 4, 5, 6]}, "`rating` must be a finite", "nan in row 3"),
    "infinite rating": ({"rating": [INF, 2, 3, 4, 5, 6]}, "`rating` must be a finite", "row 1"),
    "past float32": ({"rating": [1e300, 2, 3, 4, 5, 6]}, "`rating` must be a finite", "row 1"),
    "empty rating": ({"rating": ["1", "", "3", "4", "5", "6"]}, "`rating` must be", "'' in row 2"),
    "no rating at all": ({"rating": pa.nulls(6)}, "`rating` must hold finite numbers", "fill in"),
    "float ids": ({"user_id": [1.0] * 6}, "`user_id` must hold ids", "double"),
    "blank id": ({"item_id": ["a", " ", "c", "b", "c", "d"]}, "`item_id` must hold an id", "row 2"),
    "null id": ({"user_id": [None, *"uuuuu"]}, "`user_id` must hold an id", "a missing value"),
    "no known item": ({"item_id": list("uvwxyz")}, "none of its 6 items", "e.g. 'u'"),
    "no user left": ({"user_id": list("uvwxyz")}, "no user has 3 usable", "the most is 1"),
    "missing columns": ({"user_id": None, "timestamp": None}, "column user_id, timestamp", "map"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_EVENTS)
def test_bad_interactions_give_one_clear_line(case):
    columns, what, detail = BAD_EVENTS[case]
    with pytest.raises(DataError) as caught:
        build(events(**columns))
    message = str(caught.value)
    assert message.startswith("the interactions table: ")
    assert what in message
    assert detail in message
    assert "\n" not in message


BAD_ITEMS = {
    "no text at all": ({"text": ["", " ", None, ""]}, "has no text in any of its 4 rows"),
    "null text column": ({"text": pa.nulls(4)}, "has no text in any of its 4 rows"),
    "some texts empty": ({"text": ["x", "", None, "y"]}, "`text` is empty for 2 items: b, c; give"),
    "numbers as text": ({"text": [1, 2, 3, 4]}, "`text` must be text, got type int64"),
    "repeated id": ({"item_id": ["a", "b", "b", "d"]}, "1 repeated, the first is 'b' in row 3"),
    "no text column": ({"text": None}, "missing column text; it has item_id"),
    "numeric genres": ({"genres": [1, 2, 3, 4]}, "`genres` must hold labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_bad_items_give_one_clear_line(case):
    columns, what = BAD_ITEMS[case]
    merged = {**ITEMS.to_pydict(), **columns}
    with pytest.raises(DataError) as caught:
        build_catalogue(pa.table({k: v for k, v in merged.items() if v is not None}))
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_repeated_user_is_an_error():
    with pytest.raises(DataError, match="`user_id` must be unique, got 1 repeated"):
        build(events(), users=pa.table({"user_id": ["u1", "u1"], "gender": ["M", "F"]}))


def test_repeated_column_is_an_error():
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["item_id", "item_id"])
    with pytest.raises(DataError, match="missing column text"):
        build_catalogue(table)
    table = table.append_column("text", pa.array(["x"]))
    with pytest.raises(DataError, match="column item_id stands there twice"):
        build_catalogue(table)


@pytest.mark.parametrize("empty", ["interactions", "items", "users"])
def test_empty_table_is_an_error(empty):
    tables = {"interactions": events(), "items": ITEMS, "users": pa.table({"user_id": ["u1"]})}
    tables[empty] = tables[empty].slice(0, 0)
    with pytest.raises(DataError, match=f"the {empty} table: has no rows"):
        build_dataset("test", **tables, min_interactions=3)


rows = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "10", "x"]),
        st.sampled_from(["a", "b", "c", "d", "nowhere"]),
        st.sampled_from([1.0, 2.0, 3.0]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(rows=rows, random=st.randoms(use_true_random=False))
def test_every_row_is_kept_or_counted_whatever_the_order(rows, random):
    def attempt(given_rows):
        names = ("user_id", "item_id", "rating", "timestamp")
        try:
            return build(pa.table(dict(zip(names, zip(*given_rows, strict=True), strict=True))))
        except DataError as error:
            return str(error)

    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = attempt(rows), attempt(shuffled)
    if isinstance(one, str):
        assert isinstance(other, str)
        return
    report = one.report
    left_out = report.unknown_item_rows + report.duplicate_rows + report.short_user_rows
    assert report.rows_kept + left_out == report.rows_read == len(rows)
    assert report.users_kept + report.short_users + report.users_of_unknown_items == (
        report.users_read
    )
    assert report == other.report
    for name in ("user", "item", "rating", "timestamp"):
        assert np.array_equal(getattr(one.interactions, name), getattr(other.interactions, name))
    assert np.bincount(one.interactions.user).min() >= 3

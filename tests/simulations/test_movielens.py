"""MovieLens-100K: both published forms give the same canonical tables.

The rows here are written by hand in the published formats; no licensed file is copied.
"""

from __future__ import annotations

import pytest

from common.errors import DataError
from simulations.movielens import film_text, parse_movielens, split_title


def flags(*set_flags: int) -> str:
    return "|".join("1" if n in set_flags else "0" for n in range(19))


GROUPLENS = {
    "u.data": "2\t10\t3\t881250949\n10\t2\t5\t891717742\n2\t2\t1\t878887116\n".encode("latin-1"),
    "u.item": (
        f"10|Unmade Film, The (1995)|01-Jan-1995||http://x/(1995)|{flags(3, 4, 5)}\r\n"
        f"2|Été à la Mer (A Summer) (1991) |01-Jan-1991||http://x|{flags(8)}\n"
        f"3|unknown||||{flags(0)}\n"
        f"4|Part III (1995) (V)|||http://x|{flags()}\n\n"
    ).encode("latin-1"),
    "u.user": b"10|24|M|technician|85711\n2|53|F|other|94043\n",
}
RECBOLE = {
    "ml-100k.inter": (
        b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        b"10\t2\t5\t891717742\n2\t2\t1\t878887116\n2\t10\t3\t881250949\n"
    ),
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "2\tE\u0301te\u0301 a\u0300 la Mer (A Summer)\t1991\tDrama\n"
        "3\tunkonwn\tunkonwn\tunknown\n"
        "4\tPart III (1995)\tV\t\n"
        "10\tUnmade Film, The\t1995\tAnimation Children's Comedy\n"
    ).encode(),
    "ml-100k.user": (
        b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        b"2\t53\tF\tother\t94043\n10\t24\tM\ttechnician\t85711\n"
    ),
}


def test_both_forms_give_the_same_tables():
    one, other = parse_movielens(GROUPLENS), parse_movielens(RECBOLE)
    assert one.items.to_pylist() == other.items.to_pylist()
    assert one.interactions.equals(other.interactions)
    assert one.users.equals(other.users)
    assert one.sha256() == other.sha256()


def test_canonical_values():
    raw = parse_movielens(GROUPLENS)
    assert raw.items.column("item_id").to_pylist() == ["2", "3", "4", "10"]
    assert raw.items.column("text").to_pylist() == [
        "Été à la Mer (A Summer) (1991). Genres: Drama",
        "unknown",
        "Part III (V) (1995)",
        "Unmade Film, The (1995). Genres: Animation, Children's, Comedy",
    ]
    assert raw.items.column("genres").to_pylist()[-1] == ["Animation", "Children's", "Comedy"]
    assert raw.items.column("genres").to_pylist()[1] == []
    assert raw.interactions.to_pylist()[0] == {
        "user_id": "2", "item_id": "2", "rating": 1, "timestamp": 878887116,
    }  # fmt: skip
    assert raw.users.to_pylist()[1] == {
        "user_id": "10", "gender": "M", "age": "24", "occupation": "technician",
    }  # fmt: skip


def test_any_changed_value_changes_the_digest():
    changed = {**GROUPLENS, "u.data": GROUPLENS["u.data"].replace(b"881250949", b"881250948")}
    assert parse_movielens(changed).sha256() != parse_movielens(GROUPLENS).sha256()


@pytest.mark.parametrize(
    ("title", "year", "expected"),
    [
        ("Seven (Se7en) (1995)", "", ("Seven (Se7en)", "1995")),
        ("Seven (Se7en)", "1995", ("Seven (Se7en)", "1995")),
        ("No Year", "", ("No Year", "")),
        ("1999", "", ("1999", "")),
        ("(1995)", "", ("(1995)", "")),
        ("", "", ("unknown", "")),
    ],
)
def test_split_title(title, year, expected):
    assert split_title(title, year) == expected


def test_unknown_parts_are_left_out_of_the_text():
    assert film_text("A", "", []) == "A"
    assert film_text("A", "", ["B"]) == "A. Genres: B"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("u.data", b"1\t2\t3\n", "u.data: line 1 has 3 fields, expected 4"),
        ("u.data", b"1\tx\t3\t4\n", "an id or number is wrong"),
        ("u.item", b"\n1|A|\n", "u.item: line 2 has 3 fields, expected 24"),
        ("u.user", None, "needs the files u.data, u.item, u.user or"),
    ],
)
def test_damaged_files_give_one_clear_line(name, content, what):
    files = {k: v for k, v in {**GROUPLENS, name: content}.items() if v is not None}
    with pytest.raises(DataError) as caught:
        parse_movielens(files)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_encoding_of_the_recbole_form():
    broken = RECBOLE["ml-100k.item"].replace("e\u0301".encode(), b"\xe9")
    with pytest.raises(DataError, match="not utf-8 text"):
        parse_movielens({**RECBOLE, "ml-100k.item": broken})

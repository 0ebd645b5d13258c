"""MovieLens-100K in canonical form, whichever of its two published forms it came from.

GroupLens publishes ``u.data``, ``u.item`` and ``u.user`` (latin-1); RecBole publishes the
same content as ``ml-100k.inter``, ``.item`` and ``.user`` (UTF-8, typed headers, the year
split from the title). Both give the same tables here, checked by one SHA-256 over the
canonical values. Film 267 has no title and no year: its text is ``unknown``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

import pyarrow as pa

from common.errors import DataError
from simulations.raw_tables import RawTables

NAME = "movielens-100k"
LICENCE = (
    "MovieLens-100K (F. M. Harper and J. A. Konstan, 2015, doi 10.1145/2827872), GroupLens, "
    "University of Minnesota: research use with acknowledgement; no redistribution and no "
    "commercial use without permission."
)
GROUPLENS_FILES = ("u.data", "u.item", "u.user")
RECBOLE_FILES = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
SHA256 = "cbb80e02fc6461d5eeb37f32bce62ddf37ab89c272efc5ad589aecc41fde7120"
# In the order of the flags of u.item.
GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
# RecBole spells the missing title and year of film 267 this way.
MISSING = ("", "unknown", "unkonwn")
UNKNOWN_TITLE = "unknown"
TRAILING_PARENTHESES = re.compile(r"^(?P<title>.*\S)\s*\((?P<inside>[^()]*)\)$")


def parse_movielens(files: Mapping[str, bytes]) -> RawTables:
    """Parse either published form.

    Args:
        files: Contents by file name: all of `GROUPLENS_FILES` or all of `RECBOLE_FILES`.

    Raises:
        DataError: Neither form is complete, or a line does not fit its form.
    """
    if all(name in files for name in GROUPLENS_FILES):
        events = _rows(files, "u.data", "\t", 4, "latin-1")
        films = [_grouplens_film(row) for row in _rows(files, "u.item", "|", 24, "latin-1")]
        people = _rows(files, "u.user", "|", 5, "latin-1")
    elif all(name in files for name in RECBOLE_FILES):
        events = _rows(files, "ml-100k.inter", "\t", 4, "utf-8")[1:]
        films = [_recbole_film(row) for row in _rows(files, "ml-100k.item", "\t", 4, "utf-8")[1:]]
        people = _rows(files, "ml-100k.user", "\t", 5, "utf-8")[1:]
    else:
        raise DataError(
            f"MovieLens-100K needs the files {', '.join(GROUPLENS_FILES)} or "
            f"{', '.join(RECBOLE_FILES)}, got {', '.join(sorted(files)) or 'none'}; "
            "give the original zip, the RecBole wheel, or a folder with the files"
        )
    try:
        return RawTables(_interaction_table(events), _item_table(films), _user_table(people))
    except ValueError as error:
        raise DataError(
            f"MovieLens-100K: an id or number is wrong ({error}); fetch it anew"
        ) from error


def film_text(title: str, year: str, genres: list[str]) -> str:
    """The text that the item tower reads, without the parts that are not known."""
    known = f"{title} ({year})" if year else title
    return f"{known}. Genres: {', '.join(genres)}" if genres else known


def split_title(title: str, year: str = "") -> tuple[str, str]:
    """Title and year in one form, wherever the year stood.

    The last parenthesis of a published title is its year, save for ``(V)`` (a video), which
    RecBole takes for the year; it goes back to where the year is looked for.
    """
    title = _tidy(title)
    year = "" if _tidy(year).lower() in MISSING else _tidy(year)
    if title.lower() in MISSING:
        return UNKNOWN_TITLE, year
    if year and not year.isdecimal():
        title, year = f"{title} ({year})", ""
    video = ""
    if not year:
        match = TRAILING_PARENTHESES.match(title)
        if match and match["inside"].upper() == "V":
            video, title = " (V)", match["title"]
            match = TRAILING_PARENTHESES.match(title)
        if match and re.fullmatch(r"\d{4}", match["inside"]):
            title, year = match["title"], match["inside"]
    return title + video, year


def _grouplens_film(row: list[str]) -> tuple[str, str, str, list[str]]:
    genres = [name for name, flag in zip(GENRES, row[5:], strict=True) if flag.strip() == "1"]
    return row[0], row[1], "", genres


def _recbole_film(row: list[str]) -> tuple[str, str, str, list[str]]:
    item, title, year, genres = row
    return item, title, year, genres.split(" ")


def _rows(
    files: Mapping[str, bytes], name: str, separator: str, width: int, encoding: str
) -> list[list[str]]:
    try:
        lines = files[name].decode(encoding).replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not {encoding} text ({error.reason}); fetch it anew") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = line.split(separator)
        if len(row) != width:
            raise DataError(
                f"{name}: line {number} has {len(row)} fields, expected {width}; fetch it anew"
            )
        rows.append(row)
    return rows


def _interaction_table(rows: list[list[str]]) -> pa.Table:
    parsed = sorted((int(u), int(i), int(float(r)), int(float(t))) for u, i, r, t in rows)
    users, items, ratings, timestamps = zip(*parsed, strict=True) if parsed else ((),) * 4
    return pa.table(
        {
            "user_id": pa.array(map(str, users), pa.string()),
            "item_id": pa.array(map(str, items), pa.string()),
            "rating": pa.array(ratings, pa.int64()),
            "timestamp": pa.array(timestamps, pa.int64()),
        }
    )


def _item_table(films: list[tuple[str, str, str, list[str]]]) -> pa.Table:
    texts, genre_lists, ids = [], [], []
    for item, raw_title, raw_year, raw_genres in sorted(films, key=lambda film: int(film[0])):
        genres = sorted(genre for genre in map(_tidy, raw_genres) if genre.lower() not in MISSING)
        ids.append(str(int(item)))
        texts.append(film_text(*split_title(raw_title, raw_year), genres))
        genre_lists.append(genres)
    return pa.table(
        {
            "item_id": pa.array(ids, pa.string()),
            "text": pa.array(texts, pa.string()),
            "genres": pa.array(genre_lists, pa.list_(pa.string())),
        }
    )


def _user_table(people: list[list[str]]) -> pa.Table:
    """Both forms have the columns user, age, gender, occupation and zip code (left out)."""
    ordered = sorted(people, key=lambda person: int(person[0]))
    columns = {
        "user_id": [str(int(person[0])) for person in ordered],
        "gender": [_tidy(person[2]) for person in ordered],
        "age": [str(int(person[1])) for person in ordered],
        "occupation": [_tidy(person[3]) for person in ordered],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _tidy(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())

"""Amazon reviews as JSON lines, plain or gzip, of the 2014/2018 and of the 2023 collections.

Reviews: ``reviewerID, asin, overall, unixReviewTime`` (seconds), or ``user_id, parent_asin,
rating, timestamp`` (milliseconds). Products: files whose name begins with ``meta``, with
``asin`` or ``parent_asin``, title, brand or store, categories, description or features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import DataError
from simulations.public.lines import found_files, parsed
from simulations.public.tables import Interaction, Item, PublicData, one_line, raw_tables

PATTERNS = ("*.json", "*.jsonl", "*.json.gz", "*.jsonl.gz")


def read_products(folder: Path) -> PublicData:
    """Read reviews and products of `folder`; a product without a title is left out.

    Raises:
        DataError: A file is missing, or a line is wrong.
    """
    paths = found_files(folder, *PATTERNS)
    described = [path for path in paths if path.name.startswith("meta")]
    reviewed = [path for path in paths if path not in described]
    if not described or not reviewed:
        missing = "product file (meta_….jsonl.gz)" if not described else "review file"
        raise DataError(f"{folder}: has no {missing} beside {paths[0].name}; fetch it too")
    items: dict[str, Item] = {}
    for path in described:
        for item in parsed(path, parse_product, "a JSON object with asin or parent_asin"):
            if item.text:
                items.setdefault(item.item_id, item)
    reviews = (
        review
        for path in reviewed
        for review in parsed(path, parse_review, "a JSON object as in Amazon's reviews")
    )
    return PublicData(raw_tables(reviews, items.values()))


def parse_review(line: str) -> Interaction:
    """One review.

    Raises:
        ValueError, KeyError, TypeError: It is none.
    """
    row = _object(line)
    if "reviewerID" in row:
        user, item, stars = row["reviewerID"], row["asin"], row["overall"]
        seconds = int(row["unixReviewTime"])
    else:
        user, item, stars = row["user_id"], row["parent_asin"], row["rating"]
        seconds = int(row["timestamp"]) // 1000
    rating = float(stars)
    if not (user and item and 0 <= rating <= 5 and seconds >= 0):
        raise ValueError("an empty id, a rating outside 0 to 5, or a time before 1970")
    return Interaction(str(user), str(item), seconds, rating)


def parse_product(line: str) -> Item:
    """One product; its text is empty where it has no title.

    Raises:
        ValueError, KeyError, TypeError: It is none.
    """
    row = _object(line)
    item = str(row["parent_asin"] if "parent_asin" in row else row["asin"])
    title = _words(row.get("title"))
    groups = row.get("categories") or row.get("category") or []
    if groups and isinstance(groups[0], list):  # 2014: a list of paths
        groups = groups[0]
    genres = tuple(dict.fromkeys(_words(each) for each in groups if _words(each)))
    maker = _words(row.get("brand") or row.get("store"))
    about = _words(row.get("description")) or _words(row.get("features"))
    text = one_line(title, maker, ", ".join(genres), about) if title else ""
    return Item(item, text, genres)


def _object(line: str) -> Mapping[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def _words(value: object) -> str:
    if isinstance(value, list):
        value = " ".join(str(each) for each in value)
    return " ".join(str(value or "").split())

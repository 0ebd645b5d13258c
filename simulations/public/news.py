"""MIND (Wu et al. 2020): ``news.tsv`` and ``behaviors.tsv``, with what each user was shown.

``news.tsv``: id, category, subcategory, title, abstract, URL, title entities, abstract
entities. ``behaviors.tsv``: impression id, user id, time, history, impressions (``N1-1 N2-0``;
1: clicked). Both have tabs and no header. The training and the development part may lie side
by side as folders. History clicks have no time: they are put in order, seconds before the
user's first impression.
"""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from sys import intern
from typing import NamedTuple

from simulations.public.lines import fields, found_files, parsed
from simulations.public.tables import (
    Impression,
    Interaction,
    Item,
    PublicData,
    one_line,
    raw_tables,
)

TIME_FORM = "%m/%d/%Y %I:%M:%S %p"
NEWS, BEHAVIOURS = "news.tsv", "behaviors.tsv"


class Behaviour(NamedTuple):
    """One line of ``behaviors.tsv``."""

    impression: Impression
    history: tuple[str, ...]


def read_news(folder: Path) -> PublicData:
    """Read every ``news.tsv`` and ``behaviors.tsv`` of `folder`.

    Raises:
        DataError: A file is missing, or a line is wrong.
    """
    items: dict[str, Item] = {}
    for path in found_files(folder, NEWS):
        for item in parsed(path, parse_news, "8 fields between tabs, as in MIND's news.tsv"):
            items.setdefault(item.item_id, item)
    behaviours = [
        each
        for path in found_files(folder, BEHAVIOURS)
        for each in parsed(path, parse_behaviour, "5 fields between tabs, as in behaviors.tsv")
    ]
    behaviours.sort(key=lambda each: each.impression.timestamp)
    tables = raw_tables(_clicks(behaviours), items.values())
    return PublicData(tables, tuple(each.impression for each in behaviours))


def _clicks(behaviours: Iterable[Behaviour]) -> Iterator[Interaction]:
    """The history of each user's first impression, and what was clicked; `behaviours` in time."""
    seen: set[str] = set()
    for impression, history in behaviours:
        user, moment = impression.user_id, impression.timestamp
        if user not in seen:
            seen.add(user)
            first = max(moment - len(history), 0)
            for k, item in enumerate(history):
                yield Interaction(user, item, first + k)
        for item, clicked in zip(impression.items, impression.clicked, strict=True):
            if clicked:
                yield Interaction(user, item, moment)


def parse_news(line: str) -> Item:
    """One line of ``news.tsv``; the labels of the title's entities count as genres too.

    Raises:
        ValueError: It is none.
    """
    item, category, subcategory, title, abstract, _url, entities, _more = fields(line, 8)
    if not item or not title.strip():
        raise ValueError("no id or no title")
    labels = [str(each["Label"]) for each in json.loads(entities or "[]")]
    genres = dict.fromkeys(name for name in (category, subcategory, *labels) if name)
    return Item(item, one_line(title, f"{category}, {subcategory}", abstract), tuple(genres))


def parse_behaviour(line: str) -> Behaviour:
    """One line of ``behaviors.tsv``.

    Raises:
        ValueError: It is none; MIND's test part has no labels, and so it is refused too.
    """
    _number, user, moment, history, shown = fields(line, 5)
    pairs = [each.rpartition("-") for each in shown.split()]
    if (
        not user
        or not pairs
        or any(not item or label not in ("0", "1") for item, _, label in pairs)
    ):
        raise ValueError("impressions are not like N1-1 N2-0")
    seconds = calendar.timegm(time.strptime(moment, TIME_FORM))
    # An id stands in many lines; MIND's large part fits into memory only if it is there once.
    items, clicked = tuple(intern(p[0]) for p in pairs), tuple(p[2] == "1" for p in pairs)
    had = tuple(map(intern, history.split()))
    return Behaviour(Impression(intern(user), seconds, items, clicked), had)

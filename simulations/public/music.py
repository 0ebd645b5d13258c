"""Last.fm 1K (Celma 2010): who listened to which artist, and when.

``userid-timestamp-artid-artname-traid-traname.tsv`` (six fields between tabs, no header) and
``userid-profile.tsv`` (id, gender, age, country, day of registration; a header). An item is an
artist; its text is the name with a few titles of tracks, first in the alphabet: names are
public, and how often somebody listened is in no text. A user's first listen counts.
"""

from __future__ import annotations

import calendar
import heapq
import time
from pathlib import Path
from sys import intern

from simulations.public.lines import fields, found_files, parsed
from simulations.public.tables import Interaction, Item, PublicData, one_line, raw_tables

LISTENS = "userid-timestamp-artid-artname-traid-traname.tsv"
PROFILES = "userid-profile.tsv"
TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"
TITLES = 4
"""Titles of tracks in an artist's text."""

Listen = tuple[str, int, str, str, str]
"""User, unix seconds, artist's id, name, track's title."""


def read_music(folder: Path) -> PublicData:
    """Read the listens and, where it is there, the profiles of `folder`.

    Raises:
        DataError: The listens are missing, or a line is wrong.
    """
    first: dict[tuple[str, str], int] = {}
    names: dict[str, str] = {}
    titles: dict[str, set[str]] = {}
    for path in found_files(folder, LISTENS):
        for user, moment, artist, name, title in parsed(path, parse_listen, "6 fields and tabs"):
            known = first.get((user, artist))
            first[user, artist] = moment if known is None else min(known, moment)
            names.setdefault(artist, name)
            if title:
                kept = titles.setdefault(artist, set())
                kept.add(title)
                if len(kept) > 8 * TITLES:  # of a long file only the first in the alphabet
                    titles[artist] = set(heapq.nsmallest(TITLES, kept))
    items = [
        Item(artist, one_line(name, ", ".join(heapq.nsmallest(TITLES, titles.get(artist, ())))))
        for artist, name in names.items()
    ]
    rows = (Interaction(user, artist, moment) for (user, artist), moment in first.items())
    return PublicData(raw_tables(rows, items, _profiles(folder)))


def parse_listen(line: str) -> Listen:
    """One listen; an artist without an id is known by the name.

    Raises:
        ValueError: It is none.
    """
    user, moment, artist, name, _track, title = fields(line, 6)
    if not user or not name.strip():
        raise ValueError("no user or no artist")
    seconds = calendar.timegm(time.strptime(moment, TIME_FORM))
    return intern(user), seconds, intern(artist or f"name:{name}"), name, title.strip()


def _profiles(folder: Path) -> dict[str, dict[str, str]]:
    paths = sorted(folder.glob(PROFILES)) + sorted(folder.glob(f"*/{PROFILES}"))
    if not paths:
        return {}
    form = "id, gender, age, country, registered"
    rows = parsed(paths[0], lambda line: fields(line, 5), form)
    return {
        user: {"gender": gender, "age": age, "country": country}
        for user, gender, age, country, _registered in rows
        if not user.startswith("#")
    }

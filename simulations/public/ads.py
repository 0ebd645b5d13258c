"""Taobao's display ads (Alimama's "Ad Display/Click Data"): who was shown what, and clicked.

``raw_sample.csv`` (user, time_stamp, adgroup_id, pid, nonclk, clk), ``ad_feature.csv``
(adgroup_id, cate_id, campaign_id, customer, brand, price) and ``user_profile.csv`` (userid and
eight attributes, the context columns). An impression here is what a user was shown with pauses
of at most half an hour. Ads have no titles: their text names category, brand and price.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from sys import intern
from typing import NamedTuple

from simulations.public.lines import fields, found_files, parsed
from simulations.public.tables import Impression, Interaction, Item, PublicData, raw_tables

SHOWN, ADS, PROFILES = "raw_sample.csv", "ad_feature.csv", "user_profile.csv"
PAUSE = 1800
"""Seconds after which another impression begins."""
SHOWN_HEADER = ("user", "time_stamp", "adgroup_id", "pid", "nonclk", "clk")
AD_HEADER = ("adgroup_id", "cate_id", "campaign_id", "customer", "brand", "price")
ATTRIBUTES = (
    "cms_segid",
    "cms_group_id",
    "final_gender_code",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
)


class Shown(NamedTuple):
    """One line of ``raw_sample.csv``."""

    user_id: str
    timestamp: int
    ad: str
    clicked: bool


def read_ads(folder: Path) -> PublicData:
    """Read the three files of `folder`.

    Raises:
        DataError: A file is missing, or a line is wrong.
    """
    ads = _read(folder, ADS, AD_HEADER)
    items = [parse_ad(row) for row in ads]
    people = {
        row[0]: dict(zip(ATTRIBUTES, row[1:], strict=True))
        for row in _read(folder, PROFILES, ("userid", *ATTRIBUTES))
    }
    path = found_files(folder, SHOWN)[0]
    shown = parsed(path, parse_shown, f"the columns {', '.join(SHOWN_HEADER)}")
    rows = sorted(each for each in shown if each is not None)
    clicks = (Interaction(each.user_id, each.ad, each.timestamp) for each in rows if each.clicked)
    known = {each.user_id for each in rows if each.clicked}
    profiles = {user: people[user] for user in sorted(known) if user in people}
    return PublicData(raw_tables(clicks, items, profiles), tuple(_impressions(rows)))


def parse_shown(line: str) -> Shown | None:
    """One line of ``raw_sample.csv``; None of its header.

    Raises:
        ValueError: It is none.
    """
    row = [each.strip() for each in fields(line, len(SHOWN_HEADER), ",")]
    if tuple(row) == SHOWN_HEADER:
        return None
    if not row[0] or not row[2] or {row[4], row[5]} != {"0", "1"}:
        raise ValueError("an empty id, or nonclk and clk are not one 0 and one 1")
    return Shown(intern(row[0]), int(row[1]), intern(row[2]), row[5] == "1")


def parse_ad(row: list[str]) -> Item:
    """The item of an ad's features, its price as a power of two."""
    ad, category, _campaign, _customer, brand, price = row
    worth = f"price about {2 ** round(math.log2(max(float(price), 1)))}"
    maker = f"brand {brand}" if brand and brand != "NULL" else "no brand"
    return Item(ad, f"Category {category}, {maker}, {worth}", (f"category {category}",))


def _read(folder: Path, name: str, header: tuple[str, ...]) -> list[list[str]]:
    path = found_files(folder, name)[0]

    def row_of(line: str) -> list[str]:
        row = [each.strip() for each in fields(line, len(header), ",")]
        if not row[0]:
            raise ValueError("an empty id")
        if header is AD_HEADER and tuple(row) != header:
            float(row[-1])
        return row

    rows = parsed(path, row_of, f"the columns {', '.join(header)}")
    return [row for row in rows if tuple(row) != header]


def _impressions(rows: Iterable[Shown]) -> Iterator[Impression]:
    """What each user was shown without a longer pause; `rows` are sorted by user and time."""
    for user, its in groupby(rows, key=attrgetter("user_id")):
        together: list[Shown] = []
        for each in its:
            if together and each.timestamp - together[-1].timestamp > PAUSE:
                yield _impression(user, together)
                together = []
            together.append(each)
        yield _impression(user, together)


def _impression(user: str, rows: list[Shown]) -> Impression:
    """An ad that was shown twice stands once, clicked if it ever was; the time is the last."""
    clicked: dict[str, bool] = {}
    for each in rows:
        clicked[each.ad] = clicked.get(each.ad, False) or each.clicked
    return Impression(user, rows[-1].timestamp, tuple(clicked), tuple(clicked.values()))

"""Generated samples in the real file formats of `news`, `products`, `ads`, `music`, `pictures`.

The files pass through the same readers as the real ones. Everything in them is made up, from a
seed: same seed, same bytes.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from simulations.public import ads, music, news, pictures
from simulations.public.planted import TOPICS, USERS, World, made_world, moments, taken

SHOWN_AT_ONCE = 9
"""Items of an impression, one of them clicked."""


def write_news_sample(folder: Path, seed: int) -> None:
    """Write ``news.tsv`` and ``behaviors.tsv``: a history, then impressions with one click."""
    rng = np.random.default_rng([seed, 2])
    world = made_world(rng)
    stories = []
    for item, title in enumerate(world.titles):
        topic = world.name_of(item)
        entities = json.dumps([{"Label": topic.title(), "Type": "C", "WikidataId": f"Q{item}"}])
        about = f"A story about {topic}: {title.lower()}."
        stories.append("\t".join([f"N{item + 1}", "news", topic, title, about, "", entities, "[]"]))
    lines: list[str] = []
    for user in range(USERS):
        history = taken(world, user, rng, int(rng.integers(4, 10)))
        had = " ".join(f"N{item + 1}" for item in history)
        for moment in moments(rng, int(rng.integers(4, 9))):
            shown, clicked = _impression(world, user, rng, history)
            history.append(clicked)
            pairs = " ".join(f"N{item + 1}-{int(item == clicked)}" for item in shown)
            at = time.strftime(news.TIME_FORM, time.gmtime(moment))
            lines.append("\t".join([str(len(lines) + 1), f"U{user + 1}", at, had, pairs]))
    _write(folder / news.NEWS, stories)
    _write(folder / news.BEHAVIOURS, lines)


def write_products_sample(folder: Path, seed: int) -> None:
    """Write ``reviews.jsonl.gz`` and ``meta_products.jsonl.gz``, in the form of 2023."""
    rng = np.random.default_rng([seed, 3])
    world = made_world(rng)
    goods = []
    for item, title in enumerate(world.titles):
        topic = world.name_of(item)
        row = {
            "parent_asin": f"B{item:09d}",
            "title": f"{title} Set",
            "store": f"Maker {item % 7 + 1}",
            "categories": ["Home", topic.title()],
            "description": [f"Everything for {topic}."],
        }
        goods.append(json.dumps(row))
    reviews = []
    for user in range(USERS):
        items = taken(world, user, rng, int(rng.integers(6, 14)))
        for item, moment in zip(items, moments(rng, len(items)), strict=True):
            share = world.taste[user, world.topic[item]]
            stars = float(np.clip(np.rint(3 + 3 * share + rng.normal(scale=0.7)), 1, 5))
            review: dict[str, str | float] = {
                "user_id": f"AE{user:06d}",
                "parent_asin": f"B{item:09d}",
                "rating": stars,
                "timestamp": moment * 1000,
            }
            reviews.append(json.dumps(review))
    _write(folder / "meta_products.jsonl.gz", goods)
    _write(folder / "reviews.jsonl.gz", reviews)


def write_ads_sample(folder: Path, seed: int) -> None:
    """Write the three files; who clicks on what depends on taste, and taste on age and gender."""
    rng = np.random.default_rng([seed, 4])
    world = made_world(rng)
    people = [",".join(("userid", *ads.ATTRIBUTES[:-1], ads.ATTRIBUTES[-1] + " "))]
    shown = [",".join(ads.SHOWN_HEADER)]
    topics = len(TOPICS)
    for user in range(USERS):
        gender, age = int(rng.integers(1, 3)), int(rng.integers(1, 5))
        lean = np.full(topics, 0.2)
        lean[(4 * gender + age) % topics] += 3.0
        world.taste[user] = 0.5 * world.taste[user] + 0.5 * lean / lean.sum()
        segment = [user % 90, user % 12, gender, age, rng.integers(1, 4), rng.integers(1, 4)]
        people.append(",".join(str(each) for each in [user + 1, *segment, user % 2, ""]))
        had: list[int] = []
        for moment in moments(rng, int(rng.integers(6, 13))):
            offered, clicked = _impression(world, user, rng, had)
            had.append(clicked)
            for place, ad in enumerate(offered):
                label = "0,1" if ad == clicked else "1,0"
                shown.append(f"{user + 1},{moment + 20 * place},{ad + 1},430548_1007,{label}")
    features = [",".join(ads.AD_HEADER)]
    for ad, topic in enumerate(world.topic):
        brand = "NULL" if ad % 5 == 0 else str(1000 + topic)
        features.append(f"{ad + 1},{6000 + topic},{ad + 1},{ad + 1},{brand},{2.0 ** (ad % 9):.1f}")
    _write(folder / ads.PROFILES, people)
    _write(folder / ads.SHOWN, shown)
    _write(folder / ads.ADS, features)


def write_music_sample(folder: Path, seed: int) -> None:
    """Write listens (some artists heard again) and profiles."""
    rng = np.random.default_rng([seed, 5])
    world = made_world(rng)
    lines, people = [], ["#id\tgender\tage\tcountry\tregistered"]
    for user in range(USERS):
        artists = taken(world, user, rng, int(rng.integers(6, 16)))
        listens = artists + artists[: len(artists) // 3]
        for artist, moment in zip(listens, moments(rng, len(listens)), strict=True):
            words = TOPICS[world.name_of(artist)]
            title = f"{words[int(rng.integers(len(words)))]} song".title()
            at = time.strftime(music.TIME_FORM, time.gmtime(moment))
            name = f"The {world.titles[artist]} Band"
            lines.append(f"user_{user + 1:06d}\t{at}\ta{artist}\t{name}\t\t{title}")
        gender = "mf"[int(rng.integers(2))]
        people.append(f"user_{user + 1:06d}\t{gender}\t{rng.integers(16, 60)}\tFrance\tNov 1, 2006")
    _write(folder / music.LISTENS, lines)
    _write(folder / music.PROFILES, people)


def write_pictures_sample(folder: Path, seed: int) -> None:
    """Write the three files; titles tell nothing, and the vectors lean towards the topics."""
    rng = np.random.default_rng([seed, 6])
    world = made_world(rng)
    centres = rng.normal(size=(len(TOPICS), 16))
    vectors = centres[world.topic] + rng.normal(size=(len(world.topic), 16))
    listed = ["item_id\ttext"]
    listed += [f"p{item}\tUntitled no. {item + 1}" for item in range(len(world.topic))]
    rows = ["user_id\titem_id\ttimestamp"]
    for user in range(USERS):
        items = taken(world, user, rng, int(rng.integers(6, 14)))
        for item, moment in zip(items, moments(rng, len(items)), strict=True):
            rows.append(f"u{user}\tp{item}\t{moment}")
    _write(folder / pictures.ITEMS, listed)
    _write(folder / pictures.INTERACTIONS, rows)
    ids = np.array([f"p{item}" for item in range(len(world.topic))])
    np.savez(folder / pictures.VECTORS, item_id=ids, vectors=vectors.astype(np.float32))


SAMPLES: Mapping[str, Callable[[Path, int], None]] = {
    "news": write_news_sample,
    "products": write_products_sample,
    "ads": write_ads_sample,
    "music": write_music_sample,
    "pictures": write_pictures_sample,
}
"""What writes a sample into a folder, by the name of the data set."""


def _impression(
    world: World, user: int, rng: np.random.Generator, had: list[int]
) -> tuple[list[int], int]:
    """Items shown by popularity, none that was had; the user clicks on one by taste."""
    open_to = np.ones(len(world.topic))
    open_to[had] = 0
    weight = np.sqrt(world.popularity) * open_to
    offered = rng.choice(len(weight), SHOWN_AT_ONCE, False, weight / weight.sum())
    liking = world.liking(user)[offered]
    return [int(each) for each in offered], int(rng.choice(offered, p=liking / liking.sum()))


def _write(path: Path, lines: list[str]) -> None:
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)

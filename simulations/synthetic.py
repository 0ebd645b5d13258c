"""A small seeded data set with real structure, for tests and first steps.

Item texts are made of their genres' words; a user's taste drifts from one genre mix to
another, and the next item tends to share a genre with the last one. So text, history and
order all carry signal, as in real data, and a model that ignores them does worse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from common.errors import DataError
from common.interactions import Dataset, build_dataset

GENRE_WORDS = {
    "Adventure": ("island", "treasure", "voyage", "jungle", "map"),
    "Comedy": ("wedding", "neighbour", "prank", "vacation", "roommate"),
    "Crime": ("detective", "heist", "gangster", "alibi", "witness"),
    "Drama": ("family", "farewell", "letters", "silence", "autumn"),
    "Horror": ("haunted", "scream", "midnight", "cellar", "curse"),
    "Romance": ("kiss", "moonlight", "sweetheart", "promise", "paris"),
    "Sci-Fi": ("galaxy", "robot", "starship", "orbit", "android"),
    "War": ("battle", "soldier", "trench", "general", "frontier"),
}
OCCUPATIONS = ("artist", "engineer", "nurse", "student", "teacher")
FIRST_SECOND = 874_724_710
MIN_LENGTH, MAX_LENGTH = 8, 30
TIE_RATE = 0.1
FOLLOW_LAST = 0.6


def synthetic_dataset(
    users: int = 60, items: int = 80, seed: int = 0, *, min_interactions: int = 3
) -> Dataset:
    """Make the data set; the same arguments give the same data on every machine.

    Args:
        users: Number of users, at least 1.
        items: Number of items, at least 30.
        seed: Seeds everything.
        min_interactions: As in `build_dataset`.

    Raises:
        DataError: Too few users or items.
    """
    if users < 1 or items < MAX_LENGTH:
        raise DataError(
            f"synthetic data needs at least 1 user and {MAX_LENGTH} items, got {users} and "
            f"{items}; ask for more"
        )
    rng = np.random.default_rng([seed, 1])
    membership = _genres_of_items(items, rng)
    user_table, tastes = _draw_users(users, rng)
    rows = [_draw_history(user, tastes[user], membership, rng) for user in range(users)]
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    names = ("user_id", "item_id", "rating", "timestamp")
    interactions = pa.table(dict(zip(names, columns, strict=True)))
    return build_dataset(
        "synthetic",
        interactions,
        _item_table(membership, rng),
        user_table,
        min_interactions=min_interactions,
        licence="Synthetic data, made by fedrec; no licence applies.",
    )


def _genres_of_items(items: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """float64[V, G]: 1 where an item has a genre; one or two genres each, all genres used."""
    genres = len(GENRE_WORDS)
    membership = np.zeros((items, genres))
    first = rng.permutation(np.arange(items) % genres)
    membership[np.arange(items), first] = 1
    second = rng.integers(genres, size=items)
    has_second = rng.random(items) < 0.4
    membership[np.flatnonzero(has_second), second[has_second]] = 1
    return membership


def _item_table(membership: npt.NDArray[np.float64], rng: np.random.Generator) -> pa.Table:
    names = np.asarray(list(GENRE_WORDS))
    texts, genres = [], []
    for row in membership:
        own = [str(name) for name in names[row > 0]]
        words = [word for name in own for word in rng.choice(GENRE_WORDS[name], 2, replace=False)]
        year = rng.integers(1970, 1999)
        texts.append(f"{' '.join(words).title()} ({year}). Genres: {', '.join(own)}")
        genres.append(own)
    ids = [str(item + 1) for item in range(len(membership))]
    return pa.table({"item_id": ids, "text": texts, "genres": genres})


def _draw_users(users: int, rng: np.random.Generator) -> tuple[pa.Table, npt.NDArray[np.float64]]:
    """Attributes, and float64[U, 2, G]: taste at the start and at the end of the history.

    Taste leans on gender, so that group differences exist to be measured.
    """
    gender = rng.choice(["F", "M"], size=users)
    concentration = np.full(len(GENRE_WORDS), 0.3)
    lean = np.where(np.arange(len(GENRE_WORDS)) % 2 == 0, 0.3, 0.0)
    tastes = np.stack(
        [rng.dirichlet(concentration + (lean if g == "F" else lean[::-1]), size=2) for g in gender]
    )
    attributes = {
        "user_id": [str(user + 1) for user in range(users)],
        "gender": gender.tolist(),
        "age": [str(age) for age in rng.integers(16, 70, size=users)],
        "occupation": rng.choice(OCCUPATIONS, size=users).tolist(),
    }
    return pa.table(attributes), tastes


def _draw_history(
    user: int,
    taste: npt.NDArray[np.float64],
    membership: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[npt.NDArray[Any], ...]:
    """User ids, item ids, ratings and timestamps of one user, in time."""
    n = int(rng.integers(MIN_LENGTH, MAX_LENGTH + 1))
    unseen = np.ones(len(membership))
    items, ratings = np.zeros(n, np.int64), np.zeros(n)
    genre_now = np.zeros(membership.shape[1])
    for position in range(n):
        drift = position / max(n - 1, 1)
        mixed = (1 - drift) * taste[0] + drift * taste[1]
        leaning = (1 - FOLLOW_LAST) * mixed + FOLLOW_LAST * genre_now
        weight = (membership @ leaning + 0.02) * unseen
        items[position] = rng.choice(len(membership), p=weight / weight.sum())
        unseen[items[position]] = 0
        genre_now = membership[items[position]] / membership[items[position]].sum()
        liking = 2.5 + 3 * float(genre_now @ mixed) + rng.normal(scale=0.7)
        ratings[position] = np.clip(np.rint(liking), 1, 5)
    gaps = np.where(rng.random(n) < TIE_RATE, 0, rng.integers(1, 86_400, size=n))
    timestamps = FIRST_SECOND + rng.integers(10_000_000) + np.cumsum(gaps)
    ids = np.asarray([str(item + 1) for item in items])
    return np.full(n, str(user + 1), dtype=object), ids.astype(object), ratings, timestamps

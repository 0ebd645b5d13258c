"""What generated samples have in common: topics, and users who lean towards a few of them.

Each item is of one topic, and popular to its own degree. A user's choices follow a taste for
topics, some follow popularity: so popularity is worth something, and taste more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TOPICS: dict[str, tuple[str, ...]] = {
    "football": ("goal", "striker", "league", "penalty", "coach", "stadium"),
    "cooking": ("oven", "recipe", "butter", "garlic", "pasta", "chef"),
    "space": ("rocket", "orbit", "astronaut", "telescope", "moon", "galaxy"),
    "money": ("market", "shares", "bank", "interest", "tax", "inflation"),
    "health": ("doctor", "vaccine", "heart", "sleep", "diet", "clinic"),
    "travel": ("beach", "airport", "hotel", "island", "passport", "cruise"),
    "garden": ("roses", "soil", "seeds", "lawn", "hedge", "compost"),
    "music": ("guitar", "concert", "album", "drummer", "melody", "choir"),
}
"""Topic → words of its items' texts."""
USERS, ITEMS = 400, 160
POPULAR = 0.1
"""Share of choices that follow popularity alone."""
FIRST_SECOND = 1_573_430_400  # 11 November 2019


@dataclass(frozen=True, eq=False)
class World:
    """A made-up population and its catalogue.

    Attributes:
        topic: int64[V], each item's topic.
        titles: V titles, of the topic's words.
        popularity: float64[V], sums to 1.
        taste: float64[U, T], each user's share of the topics.
    """

    topic: npt.NDArray[np.int64]
    titles: tuple[str, ...]
    popularity: npt.NDArray[np.float64]
    taste: npt.NDArray[np.float64]

    def name_of(self, item: int) -> str:
        """Name of an item's topic."""
        return list(TOPICS)[int(self.topic[item])]

    def liking(self, user: int) -> npt.NDArray[np.float64]:
        """float64[V], sums to 1: how a user's choices spread over the items."""
        own = self.taste[user, self.topic] * self.popularity
        liking: npt.NDArray[np.float64] = (
            POPULAR * self.popularity + (1 - POPULAR) * own / own.sum()
        )
        return liking


def made_world(rng: np.random.Generator, users: int = USERS, items: int = ITEMS) -> World:
    """Draw a world."""
    names = list(TOPICS)
    topic = rng.permutation(np.arange(items) % len(names)).astype(np.int64)
    titles = tuple(
        " ".join(str(word) for word in rng.choice(TOPICS[names[each]], 3, replace=False)).title()
        for each in topic
    )
    popularity = rng.permutation(1.0 / np.arange(20, items + 20))
    taste = rng.dirichlet(np.full(len(names), 0.15), size=users)
    return World(topic, titles, popularity / popularity.sum(), taste)


def taken(world: World, user: int, rng: np.random.Generator, count: int) -> list[int]:
    """`count` distinct items that a user chooses one after the other."""
    return [int(i) for i in rng.choice(len(world.topic), count, False, world.liking(user))]


def moments(rng: np.random.Generator, count: int) -> list[int]:
    """`count` increasing unix times over some weeks, at least an hour apart."""
    gaps = rng.integers(3_600, 2 * 86_400, size=count)
    return [FIRST_SECOND + int(each) for each in np.cumsum(gaps)]

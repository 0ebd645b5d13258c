"""One seed's world: who comes when, which items are new, and what is taken.

A user takes a shown item if and only if their record in the data holds it. No model fills in
what users never met: such a model would itself be a recommender, and would favour its like.
It is the assumption of the offline evaluation, with its limit: an item that a user would have
liked but never met counts as not taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.serving.reward_model import Floats
from client.serving.take_rate import TakeRate
from common.errors import ConfigError, DataError
from common.interactions import Int64Array
from common.item_index import ItemIndex
from simulations.bandits.warm import Warm

Part = Literal["validation", "test"]
_PART_STREAM = 0x62616E64  # keeps the division of users and items apart from the worlds' draws


@dataclass(frozen=True)
class WorldPlan:
    """The shape of a world.

    Attributes:
        lists: that each user gets, in consecutive rounds.
        rounds: R; users come at random times, and what a round showed is learned at its end.
        k: length of a list.
        new_items: share of the catalogue that the run did not know.
    """

    lists: int = 10
    rounds: int = 40
    k: int = 10
    new_items: float = 0.3

    def __post_init__(self) -> None:
        """Refuses a plan in which users cannot get their lists."""
        if not 1 <= self.lists <= self.rounds:
            raise ConfigError(
                [
                    f"each user's lists must be between 1 and the rounds, got {self.lists} lists "
                    f"in {self.rounds} rounds; change --lists or --rounds"
                ]
            )


@dataclass(frozen=True, eq=False)
class World:
    """One seed.

    Attributes:
        plan: its shape.
        seed: it.
        likes: bool ``[U, V]``.
        is_new: bool ``[V]``.
        arrival: int64 ``[U]``, the round of each user's first list.
        index: scores, the new items known by their text alone.
        rate: of the scores.
        embeddings: float64 ``[V, d]``.
    """

    plan: WorldPlan
    seed: int
    likes: NDArray[np.bool_]
    is_new: NDArray[np.bool_]
    arrival: Int64Array
    index: ItemIndex
    rate: TakeRate
    embeddings: Floats


def make_world(warm: Warm, plan: WorldPlan, part: Part, seed: int) -> World:
    """A world of one part: validation and test share no user and no new item.

    Raises:
        DataError: the catalogue has fewer items than a user is shown.
    """
    if plan.lists * plan.k > warm.likes.shape[1]:
        raise DataError(
            f"a user is shown {plan.lists} lists of {plan.k}, and the catalogue has "
            f"{warm.likes.shape[1]} items; use fewer --lists"
        )
    halves = np.random.default_rng(_PART_STREAM)
    users, items = (halves.permutation(size) for size in warm.likes.shape)
    mine = slice(0, None, 2) if part == "validation" else slice(1, None, 2)
    rng = np.random.default_rng([seed, part == "test"])
    may_be_new = items[mine]
    count = min(len(may_be_new), round(plan.new_items * len(items)))
    new = np.sort(rng.choice(may_be_new, count, replace=False))
    is_new = np.zeros(len(items), dtype=bool)
    is_new[new] = True
    index = warm.index_without(new)
    likes = warm.likes[np.sort(users[mine])]
    return World(
        plan=plan,
        seed=seed,
        likes=likes,
        is_new=is_new,
        arrival=rng.integers(0, plan.rounds - plan.lists + 1, len(likes)),
        index=index,
        rate=warm.take_rate(index, new),
        embeddings=warm.embeddings,
    )


def oracle_curve(world: World) -> Int64Array:
    """What whoever knows every user's record gets: cumulative takes after each round, ``[R]``."""
    plan, liked = world.plan, world.likes.sum(axis=1)
    begun = np.arange(plan.rounds)[:, None] - world.arrival + 1  # [R, U], lists so far
    shown = np.clip(begun, 0, plan.lists) * plan.k
    best: Int64Array = np.minimum(shown, liked).sum(axis=1)
    return best

"""The loop: lists are shown, some of their items taken, and at a round's end all is learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.serving.exploration import Exploration, Pool, pool_rows
from client.serving.reward_model import Beliefs, RewardModel
from simulations.bandits.warm import scores_of
from simulations.bandits.world import World

_POLICY_STREAM = 0x706F6C


@dataclass(frozen=True)
class Outcome:
    """What one policy got in one world.

    Attributes:
        reward: items taken.
        curve: ``[R]``, items taken up to the end of each round.
        coverage: share of the catalogue that was shown to somebody.
        taken_coverage: share that somebody took.
        new_shown: places that went to new items.
        new_taken: new items taken.
        first_lists: mean items taken from a user's first list.
        late_first_lists: the same over the later half of users: what was learned helps them.
    """

    reward: int
    curve: tuple[int, ...]
    coverage: float
    taken_coverage: float
    new_shown: int
    new_taken: int
    first_lists: float
    late_first_lists: float


def play(world: World, policy: Exploration, beliefs: Beliefs) -> Outcome:
    """One policy through one world."""
    plan, (users, items) = world.plan, world.likes.shape
    model = RewardModel(world.embeddings, world.is_new, beliefs)
    rng = np.random.default_rng([world.seed, _POLICY_STREAM])
    histories = [np.zeros(0, dtype=np.int64) for _ in range(users)]
    free = np.ones((users, items), dtype=bool)
    shown, taken = np.zeros(items, dtype=np.int64), np.zeros(items, dtype=np.int64)
    first, curve, lists = np.zeros(users), [0], 0
    for moment in range(plan.rounds):
        asking = np.flatnonzero((world.arrival <= moment) & (moment < world.arrival + plan.lists))
        if len(asking):
            rates = world.rate.of(scores_of(world.index, [histories[user] for user in asking]))
            places = _lists(model, rates, free[asking], policy, plan.k, lists, rng)
            won = np.take_along_axis(world.likes[asking], places, 1)  # [U', k]
            free[asking[:, None], places] = False
            for row, user in enumerate(asking):
                histories[user] = np.concatenate([histories[user], places[row, won[row]]])
            model.learn(
                places.ravel(),
                np.take_along_axis(rates, places, 1).ravel(),
                won.ravel().astype(np.float64),
            )
            shown += np.bincount(places.ravel(), minlength=items)
            taken += np.bincount(places[won], minlength=items)
            is_first = world.arrival[asking] == moment
            first[asking[is_first]] = won[is_first].sum(axis=1)
            lists += len(asking)
        curve.append(int(taken.sum()))
    late = np.argsort(world.arrival, kind="stable")[users // 2 :]
    return Outcome(
        reward=curve[-1],
        curve=tuple(curve[1:]),
        coverage=float((shown > 0).mean()),
        taken_coverage=float((taken > 0).mean()),
        new_shown=int(shown[world.is_new].sum()),
        new_taken=int(taken[world.is_new].sum()),
        first_lists=float(first.mean()),
        late_first_lists=float(first[late].mean()),
    )


def _lists(
    model: RewardModel,
    rates: NDArray[np.float64],
    free: NDArray[np.bool_],
    policy: Exploration,
    k: int,
    lists: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """``[U', k]`` items for users with take rates ``[U', V]``, of what each may still be shown."""
    means, spreads = model.posterior().predict(rates)
    chosen = np.empty((len(rates), k), dtype=np.int64)
    for row in range(len(rates)):
        candidates = np.flatnonzero(free[row])
        mean, spread = means[row, candidates], spreads[row, candidates]
        kept = pool_rows(mean, spread)
        rows = policy.draw(Pool(mean[kept], spread[kept]), k, lists, rng)
        chosen[row] = candidates[kept[rows]]
    return chosen

"""Policies that explore: from means and spreads of rewards to a list, with its chances.

All see the same pool of candidates with the same means and spreads. A policy's strength falls
with the number of lists that were shown, from `start` to `floor`, halving its distance every
`half_life` lists.

Chances are of a *place*: with which probability it goes to each of the pool. They are exact for
`greedy`, `epsilon_greedy` and `ucb`; for `thompson` they are shares of `DRAWS` lists drawn anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from common.interactions import Int64Array

Floats = npt.NDArray[np.float64]
PolicyName = Literal["greedy", "epsilon_greedy", "ucb", "thompson"]
NAMES: tuple[PolicyName, ...] = get_args(PolicyName)
POOL = 100
"""Candidates that a list is chosen from."""
OPTIMISM = 2.0
"""Spreads above the mean by which the second half of the pool is taken."""
DRAWS = 200
"""Lists that are drawn to estimate the chances of `thompson`."""


class Pool(NamedTuple):
    """Candidates of one list.

    Attributes:
        mean: float64 ``[P]`` of the reward.
        spread: float64 ``[P]``, its standard deviation.
    """

    mean: Floats
    spread: Floats


@dataclass(frozen=True)
class Exploration:
    """A policy with the schedule of its strength.

    Attributes:
        name: which one.
        start: at the first list: ε of `epsilon_greedy`, α of `ucb` (spreads added to the mean),
            the factor on the spreads of `thompson`; `greedy` has none.
        floor: what it falls to.
        half_life: lists in which the distance to `floor` halves; 0: it stays at `start`.
    """

    name: PolicyName
    start: float = 0.0
    floor: float = 0.0
    half_life: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what is no policy."""
        faults = []
        if self.name not in NAMES:
            faults.append(f"policy must be one of {', '.join(NAMES)}, got {self.name!r}")
        for name in ("start", "floor", "half_life"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                faults.append(f"{name} must be a finite number of at least 0, got {value}")
        if self.name == "epsilon_greedy" and max(self.start, self.floor) > 1:
            faults.append(
                f"start and floor of epsilon_greedy are chances and must be at most 1, got "
                f"{self.start} and {self.floor}"
            )
        if faults:
            raise ConfigError(faults)

    def strength(self, lists: int) -> float:
        """After so many lists were shown."""
        if self.half_life == 0:
            return self.start
        return float(self.floor + (self.start - self.floor) * 2 ** (-lists / self.half_life))

    def draw(self, pool: Pool, k: int, lists: int, rng: np.random.Generator) -> Int64Array:
        """Rows of the pool, best place first: int64 ``[min(k, P)]``, without repeats."""
        strength = self.strength(lists)
        if self.name == "thompson":
            drawn = pool.mean + strength * pool.spread * rng.standard_normal(len(pool.mean))
            return _best(drawn, k)
        rows = _best(_worth(self.name, pool, strength), k)
        if self.name == "epsilon_greedy":
            others = np.setdiff1d(np.arange(len(pool.mean)), rows)
            changed = np.flatnonzero(rng.random(_open_places(len(pool.mean), k)) < strength)
            rows[changed] = rng.permutation(others)[: len(changed)]
        return rows

    def chances(
        self, pool: Pool, k: int, lists: int, rng: np.random.Generator | None = None
    ) -> Floats:
        """``[min(k, P), P]``: with which probability each place goes to each of the pool.

        Args:
            pool: the candidates.
            k: length of the list.
            lists: that were shown before.
            rng: for `thompson` alone; None: a fixed one, for equal chances of equal pools.
        """
        strength, size = self.strength(lists), len(pool.mean)
        places = min(k, size)
        chances = np.zeros((places, size))
        if self.name == "thompson":
            rng = rng or np.random.default_rng(0)
            noise = rng.standard_normal((DRAWS, size))
            drawn = np.argsort(-(pool.mean + strength * pool.spread * noise), axis=1)[:, :places]
            np.add.at(chances, (np.arange(places)[None], drawn), 1 / DRAWS)
            return chances
        rows = _best(_worth(self.name, pool, strength), k)
        chances[np.arange(places), rows] = 1.0
        if self.name == "epsilon_greedy":
            open_places = _open_places(size, k)
            others = np.setdiff1d(np.arange(size), rows)
            chances[np.arange(open_places), rows[:open_places]] = 1 - strength
            chances[:open_places, others] = strength / max(len(others), 1)
        return chances


def inclusion(chances: Floats) -> Floats:
    """``[P]``: with which probability each of the pool stands in the list, from its chances."""
    return np.asarray(np.minimum(chances.sum(axis=0), 1.0))


def pool_rows(mean: Floats, spread: Floats, size: int = POOL) -> Int64Array:
    """Which candidates a list is chosen from: rows, rising; all where there are at most `size`.

    Half of them are the best by mean; the others the best of the rest by what they could be.
    """
    if len(mean) <= size:
        return np.arange(len(mean))
    half = size // 2
    by_mean = np.argpartition(-mean, half)[:half]
    hopeful = mean + OPTIMISM * spread
    hopeful[by_mean] = -np.inf
    rest = np.argpartition(-hopeful, size - half)[: size - half]
    return np.sort(np.concatenate([by_mean, rest]))


def _worth(name: PolicyName, pool: Pool, strength: float) -> Floats:
    return pool.mean + strength * pool.spread if name == "ucb" else pool.mean


def _open_places(size: int, k: int) -> int:
    """Places that may go to somebody else: no more than there are others to take them."""
    return min(k, max(size - k, 0))


def _best(worth: Floats, k: int) -> Int64Array:
    """Of equal ones the first."""
    return np.argsort(-worth, kind="stable")[:k]

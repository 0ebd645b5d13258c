"""What feedback says about rewards: a Bayesian linear model that starts at the score.

reward(user, item) = w · take rate(score) + v · [1, embedding of item] + offset of item + noise

The take rate carries all that is the user's own; w, v and the offsets are shared by the site's
users. It is the hybrid model of Li, Chu, Langford & Schapire (2010, algorithm 2) with one
coefficient for each item, w starting at 1 and all else at 0, so that before any feedback the
order is the score's. Gaussian throughout, so that what is not known has a spread.

What was shown enters through five sums for each item: nothing depends on the order of events,
and a model built again from a log is the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.interactions import Int64Array

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Beliefs:
    """Standard deviations before any feedback; the defaults are what docs/bandits.md chose.

    Attributes:
        noise: of one reward around its mean.
        known: of the offset of an item that the run counted.
        new: of the offset of an item that the run did not know.
        rate: of w around 1.
        shared: of v, for each coordinate.
    """

    noise: float = 0.3
    known: float = 0.03
    new: float = 0.1
    rate: float = 0.3
    shared: float = 0.02


class Posterior(NamedTuple):
    """What is believed now: mean and variance of a reward are polynomials of the take rate p.

    Attributes:
        slope: of the mean in p.
        level: float64 ``[V]``; mean = slope · p + level.
        square: variance = square · p² + linear · p + constant.
        linear: float64 ``[V]``.
        constant: float64 ``[V]``.
    """

    slope: float
    level: Floats
    square: float
    linear: Floats
    constant: Floats

    def predict(self, rates: Floats) -> tuple[Floats, Floats]:
        """Means and standard deviations for take rates ``[..., V]`` of all items."""
        mean = self.slope * rates + self.level
        variance = (self.square * rates + self.linear) * rates + self.constant
        return mean, np.sqrt(np.maximum(variance, 0))


class RewardModel:
    """Learns from items that were shown; not thread-safe."""

    def __init__(
        self, embeddings: Floats, is_new: npt.NDArray[np.bool_], beliefs: Beliefs | None = None
    ) -> None:
        """Begins with the score alone.

        Args:
            embeddings: float64 ``[V, d]``, about unit variance in each column.
            is_new: ``[V]``, items that the run did not know.
            beliefs: None: the defaults.
        """
        self._beliefs = beliefs or Beliefs()
        items = len(embeddings)
        # [V, 2 + d]: a row of the design without its take rate, which stands first.
        self._rows = np.column_stack([np.zeros(items), np.ones(items), embeddings])
        offset = np.where(is_new, self._beliefs.new, self._beliefs.known)
        self._shrinking = (self._beliefs.noise / offset) ** 2  # [V], in showings
        self._sums = np.zeros((5, items))  # n, Σp, Σp², Σr, Σpr

    def learn(self, items: Int64Array, rates: Floats, rewards: Floats) -> None:
        """Adds showings: places of items, their take rates then, and what came of each."""
        parts = (np.ones(len(items)), rates, rates**2, rewards, rates * rewards)
        for row, part in zip(self._sums, parts, strict=True):
            row += np.bincount(items, part, minlength=len(row))

    def posterior(self) -> Posterior:
        """What is believed after all that was learned."""
        count, rate, square, reward, both = self._sums
        rows, noise = self._rows, self._beliefs.noise**2
        first = np.zeros(rows.shape[1])
        first[0] = 1.0
        totals = count[:, None] * rows + rate[:, None] * first  # [V, D], Σx of each item
        pull = 1 / (count + self._shrinking)  # [V]
        cross = np.outer(first, rate @ rows)
        seen = (rows * count[:, None]).T @ rows + cross + cross.T
        seen[0, 0] += square.sum()
        seen -= (totals * pull[:, None]).T @ totals
        before = np.full(rows.shape[1], 1 / self._beliefs.shared**2)
        before[0] = 1 / self._beliefs.rate**2
        covariance = np.linalg.inv(np.diag(before) + seen / noise)
        told = reward @ rows + both.sum() * first - (reward * pull) @ totals
        weights = covariance @ (before * first + told / noise)
        offset = (reward - totals @ weights) * pull
        moved = rows - totals * pull[:, None]  # [V, D]
        spread = moved @ covariance
        return Posterior(
            slope=float(weights[0]),
            level=rows @ weights + offset,
            square=float(covariance[0, 0]),
            linear=2 * spread[:, 0],
            constant=np.einsum("vd,vd->v", spread, moved) + noise * pull,
        )


def embeddings_of(vectors: npt.NDArray[np.floating], width: int = 16) -> Floats:
    """Principal coordinates of items' vectors ``[V, d]``, scaled alike: float64 ``[V, width]``.

    The leading coordinate has unit variance; fewer columns where there are fewer directions.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    sizes, directions = np.linalg.eigh(centred.T @ centred / len(vectors))  # variances, rising
    largest = max(float(sizes[-1]), 1e-300)
    kept = [at for at in range(len(sizes))[::-1][:width] if sizes[at] > 1e-9 * largest]
    scaled: Floats = centred @ directions[:, kept] / np.sqrt(largest)
    return scaled

"""The item-to-item component: what the released co-occurrence adds to a score.

The summed statistic becomes a symmetric matrix of weights between items, once, at the server;
that is post-processing and costs no ε. A site mixes it into the scores of its own users, from
histories that never leave it:

score(user, item) = recommender + weight · Σ over the history (recency · weights[·, item])

Training is unchanged: on the interactions that the statistic counted it would look better than
it is, and the head would learn to leave everything to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from common.cooccurrence import Floats, related_items, triangle_size, unpacked
from common.errors import MessageError
from common.privacy_units import IntArray

HALF_LIVES = (2.0, 6.0, 20.0)
"""Of a history's recency, in items; the three profiles are averaged."""
HISTORY_FLOOR = 0.3
"""Weight of the history as a whole beside those profiles, which sum to 1."""

Histories = Sequence[npt.NDArray[np.int64]]
NO_WEIGHTS: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)
"""Of a run without the component."""


def item_weights(
    triangle: npt.NDArray[np.floating], items: int, *, ridge: float, deviation: float
) -> npt.NDArray[np.float32]:
    """Weights between items from the summed statistic, of root mean square 1.

    Without noise these are the partial correlations that the ridge-regularised inverse holds
    (the solution of EASE, Steck 2019, with both sides scaled alike). Inverting would blow noise
    up: with noise they are what pairs have above the product of their items' totals.

    Args:
        triangle: ``[N (N + 1) / 2]``, the sum over all sites.
        items: N.
        ridge: λ, in mean diagonal cells; without noise.
        deviation: of the noise in each cell; public.

    Returns:
        The triangle of the weights, its diagonal zero; all zero where the statistic is.
    """
    matrix = unpacked(triangle, items)
    weights = _residuals(matrix, deviation) if deviation > 0 else _partial(matrix, ridge)
    np.fill_diagonal(weights, 0.0)
    size = float(np.sqrt(np.mean(np.square(weights))))
    if size > 0:
        weights /= size
    packed: npt.NDArray[np.float32] = weights[np.triu_indices(items)].astype(np.float32)
    return packed


def _partial(matrix: Floats, ridge: float) -> Floats:
    level = ridge * float(np.trace(matrix)) / len(matrix)
    if not level > 0:
        return np.zeros_like(matrix)
    inverse = np.linalg.inv(matrix + level * np.eye(len(matrix)))
    scale = np.sqrt(np.diag(inverse))
    partial: Floats = -inverse / np.outer(scale, scale)
    return partial


def _residuals(matrix: Floats, deviation: float) -> Floats:
    pairs = matrix - np.diag(np.diag(matrix))
    totals = np.maximum(pairs.sum(axis=1), deviation)
    expected = np.outer(totals, totals) / totals.sum()
    residuals: Floats = pairs - expected
    return residuals


@dataclass(frozen=True, eq=False)
class ItemToItem:
    """Weights between the N items that the statistic is over.

    Attributes:
        items: ``[N]`` catalogue indices.
        weights: ``[N, N]`` float32, symmetric.
        catalogue_size: V.
        weight: `model.item_to_item_weight`.
    """

    items: IntArray
    weights: npt.NDArray[np.float32]
    catalogue_size: int
    weight: float

    def scores(self, histories: Histories) -> npt.NDArray[np.float32]:
        """What to add to the recommender's scores: ``[U, V]``, zero for all other items."""
        weighted = np.zeros((len(histories), self.catalogue_size), dtype=np.float32)
        for row, history in enumerate(histories):
            np.add.at(weighted[row], history, history_weights(len(history)))
        scores = np.zeros_like(weighted)
        scores[:, self.items] = self.weight * (weighted[:, self.items] @ self.weights)
        return scores

    def scores_of(self, history: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """As `scores` for one history, ``[V]``, from the rows of its items alone.

        Items of the history that are newer than the catalogue, V and above, count for nothing.
        """
        rows = self._places[np.minimum(history, self.catalogue_size)]
        known = rows >= 0
        scores = np.zeros(self.catalogue_size, dtype=np.float32)
        recency = history_weights(len(history))[known]
        scores[self.items] = self.weight * (recency @ self.weights[rows[known]])
        return scores

    @cached_property
    def _places(self) -> IntArray:
        """``[V + 1]``: an item's row of `weights`, or -1."""
        places = np.full(self.catalogue_size + 1, -1, dtype=np.int64)
        places[self.items] = np.arange(len(self.items))
        return places


def history_weights(length: int) -> npt.NDArray[np.float32]:
    """Weights ``[n]`` of a history, oldest first; they sum to 1 + `HISTORY_FLOOR`."""
    if length == 0:
        return np.zeros(0, dtype=np.float32)
    ages = np.arange(length - 1, -1, -1)
    profiles = np.exp2(-ages[:, None] / np.array(HALF_LIVES))  # [n, L]
    weights = (profiles / profiles.sum(axis=0)).mean(axis=1) + HISTORY_FLOOR / length
    return np.asarray(weights, dtype=np.float32)


def item_to_item(
    triangle: npt.NDArray[np.float32],
    prior: npt.NDArray[np.float32],
    *,
    most: int,
    weight: float,
) -> ItemToItem | None:
    """The component as a site or the lab uses it; None where the run has none.

    Args:
        triangle: from `item_weights`; ``[0]`` where the run has none.
        prior: the released popularity prior ``[V]``.
        most: `model.item_to_item_items`.
        weight: `model.item_to_item_weight`.

    Raises:
        MessageError: the weights are over another number of items.
    """
    if len(triangle) == 0:
        return None
    items = related_items(prior, len(prior), most)
    if len(triangle) != triangle_size(len(items)):
        raise MessageError(
            f"weights between items have {len(triangle)} cells, {len(items)} items need "
            f"{triangle_size(len(items))}; give all sites the same catalogue"
        )
    return ItemToItem(items, _matrix(triangle.tobytes(), len(items)), len(prior), weight)


@lru_cache(maxsize=1)
def _matrix(triangle: bytes, items: int) -> npt.NDArray[np.float32]:
    """All sites of a process evaluate with the same weights."""
    return unpacked(np.frombuffer(triangle, dtype=np.float32), items).astype(np.float32)

"""Weighted means of what the sites sent: pure, exact, the same in any order.

Weights are public (equal, or sizes that the sites declared in public): a private count
cannot be expressed here. Non-finite updates are refused, never averaged in.

The sum of each coordinate is kept as an unevaluated pair of float64 numbers (Knuth's
TwoSum, TAOCP 2, 4.2.2, theorem B), about 106 bits. Replies can therefore be added one by
one as they arrive, in constant memory, and the order of arrival cannot show in the
float32 result: both engines give identical numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from common.adapters import Adapter, all_finite, check_same_shapes, shapes
from common.errors import FederationError

Float64Array = npt.NDArray[np.float64]


class WeightedSum:
    """A running, order-independent weighted sum of the sites' updates."""

    def __init__(self) -> None:
        self.weights: dict[str, int] = {}
        self._high: dict[str, Float64Array] = {}
        self._low: dict[str, Float64Array] = {}

    def add(self, site: str, update: Adapter, weight: int) -> None:
        """Adds ``weight · update``.

        Args:
            site: the site's name; each may add once.
            update: float32 tensors, the same names and shapes from every site.
            weight: public, at least 1.

        Raises:
            FederationError: The site already added, the weight is not a positive integer,
                or the update is not finite. Nothing was added then.
            MessageError: The tensors differ from the other sites'.
        """
        if site in self.weights:
            raise FederationError(f"site {site} sent a second update in one round; it is left out")
        if weight < 1:
            raise FederationError(f"site {site} has weight {weight}; a weight is at least 1")
        if not all_finite(update):
            raise FederationError(f"the update of site {site} is not finite; it is left out")
        if not self._high:
            self._high = {name: np.zeros(array.shape) for name, array in update.items()}
            self._low = {name: np.zeros(array.shape) for name, array in update.items()}
        check_same_shapes({n: a.shape for n, a in self._high.items()}, shapes(update))
        for name in self._high:
            # exact for weights below 2**29 (24 + 29 bits); above, rounded once, in any order
            term = update[name].astype(np.float64) * float(weight)
            self._high[name], error = _two_sum(self._high[name], term)
            self._low[name] += error
        self.weights[site] = weight

    def totals(self) -> dict[str, Float64Array]:
        """The weighted sums, float64, by tensor name."""
        return {name: self._high[name] + self._low[name] for name in sorted(self._high)}

    def mean(self) -> Adapter:
        """The weighted mean, float32.

        Raises:
            FederationError: Nothing was added.
        """
        if not self.weights:
            raise FederationError("no site sent a usable update; there is nothing to average")
        weight = float(sum(self.weights.values()))
        return {name: (sums / weight).astype(np.float32) for name, sums in self.totals().items()}


def weighted_mean(updates: Mapping[str, Adapter], weights: Mapping[str, int]) -> Adapter:
    """The weighted mean of `updates` by site, added in the order of the sites' names.

    Raises:
        FederationError: No updates, a non-finite one, or a weight below 1.
        MessageError: The sites' tensors differ.
    """
    total = WeightedSum()
    for site in sorted(updates):
        total.add(site, updates[site], weights[site])
    return total.mean()


def l2_norm(adapter: Mapping[str, npt.NDArray[np.floating]]) -> float:
    """The joint L2 norm over all tensors."""
    squares = [float(np.sum(np.square(array, dtype=np.float64))) for array in adapter.values()]
    return float(np.sqrt(sum(squares)))


def _two_sum(a: Float64Array, b: Float64Array) -> tuple[Float64Array, Float64Array]:
    """``a + b`` rounded, and the exact rounding error (Knuth's TwoSum)."""
    total = a + b
    b_part = total - a
    error: Float64Array = (a - (total - b_part)) + (b - b_part)
    return total, error

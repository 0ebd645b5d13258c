"""Co-occurrence of items in units: the statistic behind the item-to-item component.

Items that follow each other closely in a history count more than distant ones, so that
pairs say what is liked together *and* at about the same time. A statistic is the upper
triangle (with the diagonal) of a symmetric matrix over N items, row by row.

Guarantee: with `bounded`, one unit's whole triangle has L2 norm at most 1, whatever its
history is (repeats, one item, none). Adding or removing one unit therefore moves a sum by at
most 1 in L2, and Gaussian noise of standard deviation σ on it is a Gaussian event of noise
multiplier σ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError, MessageError
from common.privacy_units import IntArray, Unit

MAX_ITEMS = 4000
"""A triangle over more items would not fit into one message to a resident site agent."""
MAX_LENGTH = 1000
"""Most recent training items of a user that are paired; it bounds time, not sensitivity."""
LAG_FLOOR = 0.1  # of a pair far apart, before scaling; chosen on validation
_ROUNDING = 2.0**-40  # more than float64 can add to a norm of MAX_ITEMS² cells

Floats = npt.NDArray[np.float64]


def triangle_size(items: int) -> int:
    """Cells of the triangle over `items` items, the diagonal included."""
    return items * (items + 1) // 2


def related_items(prior: npt.NDArray[np.float32], catalogue_size: int, most: int) -> IntArray:
    """The items that the statistic is over: ``[N]`` catalogue indices.

    Args:
        prior: the released popularity prior ``[V]``.
        catalogue_size: V.
        most: `model.item_to_item_items`: so many of the largest prior, ties by index; 0: all.

    Raises:
        MessageError: the prior is over another catalogue.
        ConfigError: all of a catalogue is asked for that is too large for it.
    """
    if len(prior) != catalogue_size:
        raise MessageError(
            f"the item prior is over {len(prior)} items, this site's catalogue has "
            f"{catalogue_size}; give all sites the same catalogue"
        )
    items = item_count(catalogue_size, most)
    if items == catalogue_size:
        return np.arange(catalogue_size)
    return np.argsort(-prior, kind="stable")[:items].astype(np.int64)


def item_count(catalogue_size: int, most: int) -> int:
    """N of `related_items`; arguments and errors as there."""
    items = min(most or catalogue_size, catalogue_size)
    if items > MAX_ITEMS:
        raise ConfigError(
            [
                f"model.item_to_item_items=0 asks for all pairs of {catalogue_size} items; "
                f"set model.item_to_item_items to at most {MAX_ITEMS}"
            ]
        )
    return items


def cell_count(catalogue_size: int, most: int) -> int:
    """Cells of the statistic over a catalogue; arguments and errors as of `related_items`."""
    return triangle_size(item_count(catalogue_size, most))


def cooccurrence_sum(
    units: Sequence[Unit],
    items: IntArray,
    catalogue_size: int,
    *,
    half_life: float,
    bounded: bool,
) -> Floats:
    """The units' triangles, added up: ``[N (N + 1) / 2]``.

    Args:
        units: the site's units.
        items: ``[N]``, from `related_items`; all other items are left out.
        catalogue_size: V.
        half_life: of a pair's weight, in places between the two in the history.
        bounded: whether each unit is scaled to norm at most 1; else (mode `none`) it counts in
            full.
    """
    places = np.full(catalogue_size, -1, dtype=np.int64)
    places[items] = np.arange(len(items))
    total = np.zeros(triangle_size(len(items)))
    for unit in units:
        cells, values = unit_cooccurrence(unit, places, len(items), half_life=half_life)
        if bounded:
            norm = float(np.sqrt(np.square(values).sum())) * (1 + _ROUNDING)
            values = values / max(1.0, norm)
        total[cells] += values
    return total


def unit_cooccurrence(
    unit: Unit, places: IntArray, items: int, *, half_life: float
) -> tuple[IntArray, Floats]:
    """One unit's triangle, before any bound.

    A user pairs all its items; an example pairs its target with itself and what stands before
    it, so that a user's examples make up what the user would.

    Args:
        unit: the unit.
        places: ``[V]``, where each catalogue item stands among the N; -1: it does not.
        items: N.
        half_life: in places between the two items of a pair.

    Returns:
        Cells ``[c]`` of the triangle, each once and rising, and their values ``[c]``.
    """
    here = places[unit.items]  # [n]
    earlier, later = np.nonzero(np.tri(len(here), dtype=bool).T)  # every pair once, i ≤ j
    keep = (here[earlier] >= 0) & (here[later] >= 0) & (later >= unit.first_target)
    earlier, later = earlier[keep], later[keep]
    lags = later - earlier
    weights = (np.exp2(-lags / half_life) + LAG_FLOOR) / (1 + LAG_FLOOR)
    row, column = here[earlier], here[later]
    # A symmetric matrix has each pair twice; on its diagonal both fall into one cell.
    weights = np.where((row == column) & (lags > 0), 2 * weights, weights)
    low, high = np.minimum(row, column), np.maximum(row, column)
    cells, inverse = np.unique(low * items - low * (low - 1) // 2 + high - low, return_inverse=True)
    values = np.bincount(inverse, weights=weights, minlength=len(cells))
    return cells.astype(np.int64), values.astype(np.float64)


def unpacked(triangle: npt.NDArray[np.floating], items: int) -> Floats:
    """The symmetric matrix ``[N, N]`` of a triangle."""
    matrix = np.zeros((items, items))
    upper = np.triu_indices(items)
    matrix[upper] = triangle
    matrix.T[upper] = triangle
    return matrix

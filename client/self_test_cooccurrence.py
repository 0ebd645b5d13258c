"""Before a site counts pairs under privacy: does one unit move the sum by no more than 1?"""

from __future__ import annotations

import numpy as np

from common.cooccurrence import cooccurrence_sum
from common.errors import SelfTestError
from common.privacy_units import IntArray, Unit
from common.randomness import RandomSource

_UNITS = 4
_LONGEST = 60


def prove_bound(
    items: IntArray, catalogue_size: int, *, half_life: float, source: RandomSource
) -> float:
    """Counts made-up users and examples with and without each of them; no user's data.

    Args:
        items: ``[N]``, those that the run counts.
        catalogue_size: V.
        half_life: `model.item_to_item_half_life`.
        source: the site's randomness.

    Returns:
        The largest move of the sum by one unit.

    Raises:
        SelfTestError: it is over 1; the site must not release.
    """
    units = [_made_up(items, place, source) for place in range(_UNITS)]
    whole = cooccurrence_sum(units, items, catalogue_size, half_life=half_life, bounded=True)
    largest = 0.0
    for place in range(_UNITS):
        rest = units[:place] + units[place + 1 :]
        without = cooccurrence_sum(rest, items, catalogue_size, half_life=half_life, bounded=True)
        largest = max(largest, float(np.linalg.norm(whole - without)))
    if not largest <= 1 + 1e-9:
        raise SelfTestError(
            f"self-test: one unit moves the co-occurrence by {largest:.6g}, more than 1; "
            "refusing to release it"
        )
    return largest


def _made_up(items: IntArray, place: int, source: RandomSource) -> Unit:
    """A history of counted items, drawn with repeats; every other one is of an example."""
    length = 1 + int(source.integers(_LONGEST, 1)[0])
    history = items[source.integers(len(items), length)]
    ratings = np.ones(length, dtype=np.float32)
    first_target = (length - 1) * (place % 2)
    return Unit("synthetic", history, ratings, np.unique(history), first_target)

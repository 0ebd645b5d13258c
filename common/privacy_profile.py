"""The privacy profile of a history: ε as a function of δ, and δ as a function of ε.

One history satisfies (ε, δ)-differential privacy for a whole curve of pairs, and the one
that is printed is a choice. Every pair here is a guarantee that holds by itself: both
directions ask `common.accounting.epsilon`, whose answer is never below the truth, and round
towards the larger number. All event types are covered; an unknown one raises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from common.accounting import Accountant, epsilon
from common.errors import PrivacyError
from common.privacy_events import PrivacyEvent, merge_events

DELTAS: tuple[float, ...] = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)

LEAST_DELTA = 1e-12
"""Below this no accountant resolves; `delta` answers it where the truth is smaller."""

_CLOSE = 1e-3  # δ is found to 0.1%, from above
_LARGEST_DELTA = 1 - 2.0**-20


class ProfilePoint(NamedTuple):
    """One guarantee: the history satisfies (epsilon, delta)."""

    delta: float
    epsilon: float


def privacy_profile(
    history: Sequence[PrivacyEvent],
    deltas: Sequence[float] = DELTAS,
    accountant: Accountant = "prv",
) -> tuple[ProfilePoint, ...]:
    """ε(δ) of all of `history` together over a grid.

    Args:
        history: every release that touched the same units.
        deltas: values of δ in (0, 1).
        accountant: which accountant answers.

    Returns:
        One point per distinct δ, by growing δ; ε never grows along it, since whatever holds
        at a δ holds at every larger one.

    Raises:
        PrivacyError: a δ outside (0, 1), or an unknown accountant.
        UnknownEventError: the history holds an event that no theorem covers.
    """
    points: list[ProfilePoint] = []
    least = math.inf
    for each in sorted(set(deltas)):
        least = min(least, epsilon(history, each, accountant))
        points.append(ProfilePoint(each, least))
    return tuple(points)


def delta(
    history: Sequence[PrivacyEvent], at_epsilon: float, accountant: Accountant = "prv"
) -> float:
    """The δ at which `history` satisfies (at_epsilon, δ); the inverse of `epsilon`.

    Args:
        history: every release that touched the same units.
        at_epsilon: ε, at least 0 and finite.
        accountant: which accountant answers.

    Returns:
        δ in [0, 1] with ``epsilon(history, δ) <= at_epsilon`` (δ < 1), at most 0.1% above
        the smallest such δ; at least `LEAST_DELTA`, except that no release gives 0; 1 where
        nothing better is known.

    Raises:
        PrivacyError: at_epsilon is negative or not finite, or an unknown accountant.
        UnknownEventError: the history holds an event that no theorem covers.
    """
    if not (math.isfinite(at_epsilon) and at_epsilon >= 0):
        raise PrivacyError(f"epsilon must be at least 0 and finite, got {at_epsilon}; choose one")
    if not merge_events(history):
        return epsilon(history, LEAST_DELTA, accountant)  # 0, for a known accountant
    return _inverse(tuple(history), at_epsilon, accountant)


@lru_cache(maxsize=4096)
def _inverse(history: tuple[PrivacyEvent, ...], at_epsilon: float, accountant: Accountant) -> float:
    def holds(log_delta: float) -> bool:
        return epsilon(history, math.exp(log_delta), accountant) <= at_epsilon

    low, high = math.log(LEAST_DELTA), math.log(_LARGEST_DELTA)
    if holds(low):
        return LEAST_DELTA
    if not holds(high):
        return 1.0
    while high - low > _CLOSE:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return math.exp(high)  # the very number that was asked about

"""What another policy would have earned, told from lists that one policy chose.

A reward is taken to depend on its item and user alone, not on the place or the rest of the list
(the item model of Li et al., 2018). Each item of a list then weighs
w = P(other policy shows it) ÷ P(the log's policy showed it), wherever in the list, and a list is
worth the sum of its places:

- IPS: mean over lists of Σ w r. Unbiased where the log's policy could choose all that the other
  can, and of large variance where it seldom did.
- SNIPS (Swaminathan & Joachims, 2015): Σ w r ÷ Σ w, times the places of a list. A little biased,
  and steadier.
- DR (Dudík, Langford & Li, 2011): what a reward model expects of the other policy, plus Σ w (r −
  what it expected). Unbiased where either the chances or the model are right.

Intervals are percentile bootstraps over users, since lists of one user are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.interactions import Int64Array

Floats = npt.NDArray[np.float64]
RESAMPLES = 2000
_CELLS = 200_000  # users drawn at once
LEAST_SAMPLE = 100.0
"""Effective places below which an estimate is called unreliable."""
LEAST_COVERED = 0.8
"""Mean weight below which the log is said to miss what the other policy chooses."""


@dataclass(frozen=True, eq=False)
class Logged:
    """N places of L lists, as the log has them and as another policy would fill them.

    Attributes:
        lists: int64 ``[N]``, each place's list, 0 … L − 1.
        users: int64 ``[L]``, each list's user.
        rewards: float64 ``[N]``.
        logged: float64 ``[N]``, chances to stand in the list under the log's policy, above 0.
        wanted: float64 ``[N]``, chances under the other policy.
        expected: float64 ``[N]``, rewards that a model expected of the items.
        worth: float64 ``[L]``, what the model expects of the other policy's whole list.
    """

    lists: Int64Array
    users: Int64Array
    rewards: Floats
    logged: Floats
    wanted: Floats
    expected: Floats
    worth: Floats

    def __post_init__(self) -> None:
        """Refuses what no log can hold."""
        places = len(self.lists)
        columns = (self.rewards, self.logged, self.wanted, self.expected)
        if not places or any(len(column) != places for column in columns):
            raise DataError(
                "an off-policy estimate needs at least one place, and each column of it; "
                "let the service show some lists first"
            )
        if not all(np.isfinite(column).all() for column in (*columns, self.worth)):
            raise DataError("a logged reward or chance is not finite; leave that list out")
        if self.logged.min() <= 0 or self.logged.max() > 1 or self.wanted.min() < 0:
            raise DataError("logged chances must be above 0 and at most 1; leave that list out")


class Estimate(NamedTuple):
    """Items taken from a list, with a 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class OffPolicy:
    """What is told of the other policy.

    Attributes:
        lists: L.
        places: N.
        observed: what the log's own lists earned.
        ips: estimate.
        snips: estimate; None where no place has a weight.
        dr: estimate.
        effective_places: (Σw)² ÷ Σw² (Kish), of N.
        mean_weight: 1 in expectation where the log could show all that the other policy would.
    """

    lists: int
    places: int
    observed: Estimate
    ips: Estimate
    snips: Estimate | None
    dr: Estimate
    effective_places: float
    mean_weight: float

    @property
    def warning(self) -> str | None:
        """Why the estimates should not be relied on; None where nothing speaks against it."""
        if self.effective_places < LEAST_SAMPLE:
            return (
                f"the overlap is too small: {self.places} places are worth "
                f"{self.effective_places:.0f} of the other policy's (at least {LEAST_SAMPLE:.0f} "
                "are needed); log more lists, or with a policy that explores more"
            )
        if self.mean_weight < LEAST_COVERED:
            return (
                f"the log lacks what the other policy would show: it covers "
                f"{self.mean_weight:.0%} of it (at least {LEAST_COVERED:.0%} is needed); log with "
                "a policy that gives every candidate a chance, such as epsilon_greedy"
            )
        return None


def evaluate(logged: Logged, *, seed: int = 0) -> OffPolicy:
    """All three estimates.

    Args:
        logged: the log.
        seed: of the bootstrap.
    """
    count = len(logged.users)
    weights = logged.wanted / logged.logged
    per_list = np.column_stack(
        [
            np.bincount(logged.lists, values, minlength=count)
            for values in (
                np.ones(len(weights)),
                logged.rewards,
                weights,
                weights * logged.rewards,
                weights * (logged.rewards - logged.expected),
            )
        ]
    )
    columns = np.column_stack([np.ones(count), per_list, logged.worth])  # [L, 7]
    _, user = np.unique(logged.users, return_inverse=True)
    of_users = np.column_stack([np.bincount(user, column) for column in columns.T])  # [U, 7]
    drawn = _resampled(of_users.astype(np.float64), np.random.default_rng(seed))
    point, spread = _estimates(of_users.sum(axis=0)[None]), _estimates(drawn)
    observed, ips, snips, dr = (
        _estimate(point[name][0], spread[name]) for name in ("observed", "ips", "snips", "dr")
    )
    squares = float(np.square(weights).sum())
    return OffPolicy(
        lists=count,
        places=len(weights),
        observed=observed,
        ips=ips,
        snips=snips if squares > 0 else None,
        dr=dr,
        effective_places=float(weights.sum()) ** 2 / squares if squares > 0 else 0.0,
        mean_weight=float(weights.mean()),
    )


def _resampled(of_users: Floats, rng: np.random.Generator) -> Floats:
    """``[B, 7]``: sums over as many users, drawn with replacement, in parts that fit memory."""
    people = len(of_users)
    part = max(1, _CELLS // people)
    sums = [
        of_users[rng.integers(0, people, (min(part, RESAMPLES - start), people))].sum(axis=1)
        for start in range(0, RESAMPLES, part)
    ]
    return np.concatenate(sums)


def _estimates(sums: Floats) -> dict[str, Floats]:
    """Each estimate of ``[B, 7]`` sums: lists, places, r, w, w r, w (r − expected), worth."""
    lists, places, reward, weight, weighted, left, worth = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "observed": reward / lists,
            "ips": weighted / lists,
            "snips": weighted / weight * places / lists,
            "dr": (worth + left) / lists,
        }


def _estimate(mean: float, drawn: Floats) -> Estimate:
    finite = drawn[np.isfinite(drawn)]
    if len(finite) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(finite, (0.025, 0.975))
    return Estimate(float(mean), float(low), float(high))

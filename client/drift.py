"""How far a site's data have moved since its adapter was trained. It stays at the site.

Nothing here is a release: the figures are exact, of the site's own users, for its operator. Who
hands them on makes a release that no ledger knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import jensenshannon

from common.errors import DataError
from common.interactions import Int64Array
from common.metrics import user_metrics
from common.ranking import worst_ranks
from common.recommender import Recommender
from common.requests import Requests

Floats = npt.NDArray[np.float64]
BINS = 10
PSI_IS_LARGE = 0.25
"""The usual reading of a PSI: below 0.1 stable, above 0.25 another population."""
LEAST_NEW = 30
"""Users with new interactions, below which nothing is concluded."""


@dataclass(frozen=True)
class Drift:
    """What moved between the interactions before a moment and those since.

    Attributes:
        old, new: Interactions before, and since.
        new_users: Users with a history before and something since.
        length_psi: PSI of the lengths of histories, less what chance alone would give.
        popularity_psi: PSI over items by their share of the old interactions, likewise.
        popularity_distance: Jensen–Shannon distance of the items' shares, 0 to 1.
        text_shift: 1 − cosine of the mean text vectors of old and new interactions.
        hit_before: HR@10 of each user's last item before, known to training as it may be.
        hit_now: HR@10 of each user's first item since.
        hit_drop: z of the paired drop from the first to the second.
    """

    old: int
    new: int
    new_users: int
    length_psi: float
    popularity_psi: float
    popularity_distance: float
    text_shift: float
    hit_before: float
    hit_now: float
    hit_drop: float

    @property
    def advice(self) -> str:
        """One line for the operator."""
        if self.new_users < LEAST_NEW:
            return (
                f"too little is new to say ({self.new_users} users of {LEAST_NEW} have something "
                "since); wait"
            )
        reasons = []
        if self.hit_drop > NormalDist().inv_cdf(0.975):
            reasons.append(f"the hit rate fell from {self.hit_before:.3f} to {self.hit_now:.3f}")
        if self.popularity_psi > PSI_IS_LARGE:
            reasons.append(f"other items are popular (PSI {self.popularity_psi:.2f})")
        if self.length_psi > PSI_IS_LARGE:
            reasons.append(f"histories have other lengths (PSI {self.length_psi:.2f})")
        if not reasons:
            return "retraining is not worth its ε yet: the data are much as they were"
        return f"retraining is worth it: {', and '.join(reasons)}"


@dataclass(frozen=True, eq=False)
class Timeline:
    """One user: items and times in order, and attributes."""

    items: Int64Array
    times: Int64Array
    attributes: dict[str, str]

    def before(self, moment: int) -> int:
        """How many interactions lie before `moment`."""
        return int(np.searchsorted(self.times, moment, side="left"))


def psi(expected: Floats, actual: Floats) -> float:
    """Population stability index of two counts ``[B]``, less its expectation without any drift.

    The sum over bins of (q − p)·ln(q / p), with half a count added to each bin. Without
    drift it is about χ² with B − 1 degrees of freedom, times (1/n + 1/m); its mean is taken
    off, and what falls below zero is zero.
    """
    n, m = expected.sum(), actual.sum()
    p, q = (each + 0.5 for each in (expected, actual))
    p, q = p / p.sum(), q / q.sum()
    found = float(((q - p) * np.log(q / p)).sum())
    return max(found - (len(p) - 1) * float(1 / n + 1 / m), 0.0)


def measure_drift(recommender: Recommender, users: Sequence[Timeline], moment: int) -> Drift:
    """Compare what users did before `moment` with what they did since.

    Args:
        recommender: with the site's current adapter.
        users: all users of the site.
        moment: unix seconds; the adapter was trained on what lies before.

    Raises:
        DataError: nothing lies before, or nothing since.
    """
    items = len(recommender.item_prior)
    cuts = [user.before(moment) for user in users]
    none = np.zeros(0, dtype=np.int64)
    old = np.concatenate([none, *(u.items[:c] for u, c in zip(users, cuts, strict=True))])
    new = np.concatenate([none, *(u.items[c:] for u, c in zip(users, cuts, strict=True))])
    if len(old) == 0 or len(new) == 0:
        raise DataError(
            f"{len(old)} interactions lie before the moment and {len(new)} since; refresh the "
            "site's tables, or name another moment with --since"
        )
    shares = np.bincount(old, minlength=items), np.bincount(new, minlength=items)
    text = recommender.table().cpu().numpy().astype(np.float64)
    both = [(u, c) for u, c in zip(users, cuts, strict=True) if 2 <= c < len(u.items)]
    was, now = _hits(recommender, both, -1), _hits(recommender, both, 0)
    return Drift(
        old=len(old),
        new=len(new),
        new_users=len(both),
        length_psi=_length_psi(users, cuts),
        popularity_psi=psi(*_by_popularity(*shares)),
        popularity_distance=float(jensenshannon(*shares, base=2)),
        text_shift=_cosine_distance(text[old].mean(axis=0), text[new].mean(axis=0)),
        hit_before=float(was.mean()) if len(was) else 0.0,
        hit_now=float(now.mean()) if len(now) else 0.0,
        hit_drop=_z(was - now),
    )


def _length_psi(users: Sequence[Timeline], cuts: Sequence[int]) -> float:
    """Lengths of histories at the moment against those of now, over bins of the former."""
    was = np.array([c for c in cuts if c > 0])
    now = np.array([len(user.items) for user in users if len(user.items)])
    edges = np.unique(np.quantile(was, np.arange(1, BINS) / BINS))
    counts = [
        np.bincount(np.searchsorted(edges, each, side="left"), minlength=len(edges) + 1)
        for each in (was, now)
    ]
    return psi(counts[0].astype(np.float64), counts[1].astype(np.float64))


def _by_popularity(old: Int64Array, new: Int64Array) -> tuple[Floats, Floats]:
    """Counts over bins of items, each with about as many of the old interactions."""
    order = np.argsort(-old, kind="stable")
    upto = np.cumsum(old[order]) - old[order]
    which = np.minimum(upto * BINS // old.sum(), BINS - 1)
    places = np.empty(len(old), dtype=np.int64)
    places[order] = which
    counts = [
        np.bincount(places, weights=each, minlength=BINS).astype(np.float64) for each in (old, new)
    ]
    return counts[0], counts[1]


def _hits(recommender: Recommender, both: Sequence[tuple[Timeline, int]], offset: int) -> Floats:
    """Whether the item `offset` places from each user's cut is among the ten best, ``[U]``."""
    if not both:
        return np.zeros(0)
    places = [cut + offset for _, cut in both]
    asked = Requests(
        histories=[user.items[:p] for (user, _), p in zip(both, places, strict=True)],
        moments=np.array([user.times[p] for (user, _), p in zip(both, places, strict=True)]),
        previous=np.array([user.times[p - 1] for (user, _), p in zip(both, places, strict=True)]),
        attributes=[user.attributes for user, _ in both],
    )
    targets = [user.items[p : p + 1] for (user, _), p in zip(both, places, strict=True)]
    return user_metrics(worst_ranks(recommender.score_all(asked), targets, asked))["hr_10"]


def _z(differences: Floats) -> float:
    if len(differences) < 2 or not (deviation := float(differences.std(ddof=1))):
        return 0.0
    return float(differences.mean()) / deviation * float(np.sqrt(len(differences)))


def _cosine_distance(first: Floats, second: Floats) -> float:
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return 1.0 - float(first @ second) / lengths if lengths else 0.0

"""Ranking metrics of users, and the sums of them that a site may report.

Every metric is computed from ranks (`common.ranking.worst_ranks`), each rank being the
1-based place of one target among all candidates of its user. Relevance is binary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError

METRIC_NAMES: tuple[str, ...] = ("hr_10", "hr_20", "ndcg_10", "ndcg_20", "mrr")
CUTOFFS: tuple[int, ...] = (10, 20)


@dataclass(frozen=True)
class MetricSums:
    """Sums over users of their ranking metrics, each metric in [0, 1] for one user.

    Attributes:
        users: number of users summed over.
        hr_10: sum of hit rates at 10.
        hr_20: sum of hit rates at 20.
        ndcg_10: sum of normalised discounted cumulative gains at 10.
        ndcg_20: sum of normalised discounted cumulative gains at 20.
        mrr: sum of reciprocal ranks of the best-ranked target.
    """

    users: int
    hr_10: float
    hr_20: float
    ndcg_10: float
    ndcg_20: float
    mrr: float

    def __add__(self, other: MetricSums) -> MetricSums:
        """Return the sums over both groups of users."""
        return MetricSums(
            users=self.users + other.users,
            hr_10=self.hr_10 + other.hr_10,
            hr_20=self.hr_20 + other.hr_20,
            ndcg_10=self.ndcg_10 + other.ndcg_10,
            ndcg_20=self.ndcg_20 + other.ndcg_20,
            mrr=self.mrr + other.mrr,
        )

    @classmethod
    def zero(cls) -> MetricSums:
        """Return the sums over no user at all, the neutral element of `+`."""
        return cls(users=0, hr_10=0.0, hr_20=0.0, ndcg_10=0.0, ndcg_20=0.0, mrr=0.0)

    @classmethod
    def from_users(cls, metrics: Mapping[str, NDArray[np.float64]]) -> MetricSums:
        """Return the sums of what `user_metrics` gave, arrays [U] by metric name."""
        sums = {name: float(metrics[name].sum()) for name in METRIC_NAMES}
        return cls(users=len(metrics["mrr"]), **sums)

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over users (all NaN when there are no users)."""
        if self.users == 0:
            return dict.fromkeys(METRIC_NAMES, float("nan"))
        return {name: float(getattr(self, name)) / self.users for name in METRIC_NAMES}


def user_metrics(ranks: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.float64]]:
    """Compute every metric of `METRIC_NAMES` for each user.

    HR@k is 1 when any target is among the first k; NDCG@k discounts by log2(rank + 1) and
    divides by the gain of the ideal list of min(k, number of targets) targets (Järvelin &
    Kekäläinen, 2002, with binary gain); MRR is the reciprocal rank of the best target.

    Args:
        ranks: U arrays of 1-based ranks, one rank per target of the user.

    Returns:
        float64[U] for each metric name.

    Raises:
        DataError: a user has no target, so that no metric is defined for them.
    """
    counts = np.array([len(row) for row in ranks], dtype=np.int64)
    if len(ranks) == 0:
        return {name: np.zeros(0) for name in METRIC_NAMES}
    if counts.min() == 0:
        raise DataError(
            f"user at position {int(counts.argmin())} has no held-out target to be ranked; "
            "leave such users out before computing metrics"
        )
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))  # first target of each user
    flat = np.concatenate(ranks)  # [T], all targets of all users
    best = np.minimum.reduceat(flat, starts)
    metrics: dict[str, NDArray[np.float64]] = {}
    for k in CUTOFFS:
        gains = np.where(flat <= k, 1.0 / np.log2(flat + 1.0), 0.0)
        ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))[np.minimum(counts, k) - 1]
        metrics[f"hr_{k}"] = (best <= k).astype(np.float64)
        metrics[f"ndcg_{k}"] = np.add.reduceat(gains, starts) / ideal
    metrics["mrr"] = 1.0 / best
    return {name: metrics[name] for name in METRIC_NAMES}

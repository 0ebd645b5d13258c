"""One row of the fairness tables before statistics: a model's users, ranks and lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.holdout import UserSplit
from simulations.baselines.popularity import train_counts
from simulations.evaluation.full_ranking import PerUser, Scorer, history_of, targets_of
from simulations.evaluation.top_lists import evaluate_with_lists
from simulations.report.fairness_records import FairnessRowKind


@dataclass(frozen=True)
class Audience:
    """Whom all rows are about; every row holds these users in this order.

    Attributes:
        splits: one per user, each with a test item.
        counts: int64 ``[V]``, train interactions of each item.
        candidates: int64 ``[U]``, items outside each user's history.
        resamples: of each interval.
        seed: of the resampling and of ties.
    """

    splits: tuple[UserSplit, ...]
    counts: NDArray[np.int64]
    candidates: NDArray[np.int64]
    resamples: int
    seed: int

    @classmethod
    def of(cls, splits: Sequence[UserSplit], items: int, resamples: int, seed: int) -> Audience:
        """Take the users who have a test item.

        Args:
            splits: one per user of the data set.
            items: V.
            resamples: bootstrap resamples of each interval.
            seed: seeds them.

        Raises:
            DataError: no user has a test item.
        """
        judged = tuple(split for split in splits if len(targets_of(split, "test")))
        if not judged:
            raise DataError(
                f"none of {len(splits)} users has a test item; use a data set with more data"
            )
        seen = [len(np.unique(history_of(split, "test"))) for split in judged]
        return cls(judged, train_counts(splits, items), items - np.array(seen), resamples, seed)


@dataclass(frozen=True)
class EvaluatedLists:
    """What a row of the fairness tables is made of.

    Attributes:
        name: as printed.
        kind: what the row is.
        metrics: of each user, with ranks.
        lists: int64 ``[U, 10]`` in the order of the users.
        note: what a reader must know about the row.
    """

    name: str
    kind: FairnessRowKind
    metrics: PerUser
    lists: NDArray[np.int64]
    note: str = ""


def evaluated(
    name: str, kind: FairnessRowKind, scorer: Scorer, audience: Audience, note: str = ""
) -> EvaluatedLists:
    """Evaluate a scorer on the test items of the audience."""
    metrics, lists = evaluate_with_lists(scorer, audience.splits, "test", seed=audience.seed)
    return EvaluatedLists(name, kind, metrics, lists, note)

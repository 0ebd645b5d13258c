"""The temporal hold-out: which of a user's interactions train, validate and test.

Each user is split alone, ordered by (timestamp, seeded hash of user and item), so that the
split depends neither on the partition into sites, nor on the order of rows, nor on other
users. Ties are never broken by item id or file order: on MovieLens-100K that alone moves
the figures of a model by half. Only ``time_cut`` has something in common to all users: two
times, which are part of the configuration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.interactions import Catalogue, Float32Array, Int64Array, Interactions, Users

MIN_INTERACTIONS = 3

Stage = Literal["validation", "test"]
TimeCut = tuple[int, int]
"""Unix seconds from which on interactions validate, and from which on they test."""


@dataclass(frozen=True, eq=False)
class ItemSequence:
    """Chronological interactions of one user.

    Attributes:
        items: int64[n], index into the catalogue.
        ratings: float32[n].
        timestamps: int64[n], unix seconds, non-decreasing.
    """

    items: Int64Array
    ratings: Float32Array
    timestamps: Int64Array

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, eq=False)
class UserSplit:
    """One user's interactions: `train`, then `validation`, then `test` in time.

    After a global time cut any of them may be empty. `attributes` are those of the users
    table by name, where it was given.
    """

    user_id: str
    train: ItemSequence
    validation: ItemSequence
    test: ItemSequence
    attributes: Mapping[str, str] = field(default_factory=dict)


def history_of(split: UserSplit, stage: Stage) -> Int64Array:
    """What is known of a user before the stage's targets: int64[n], oldest first.

    At test time the validation items are *input*; no scorer was trained on them.
    """
    if stage == "validation":
        return split.train.items
    return np.concatenate([split.train.items, split.validation.items])


def targets_of(split: UserSplit, stage: Stage) -> Int64Array:
    """The items to be ranked at this stage: int64[m]."""
    return split.validation.items if stage == "validation" else split.test.items


def is_judged(split: UserSplit, stage: Stage) -> bool:
    """Whether the user has both a history and a target at this stage."""
    return len(targets_of(split, stage)) > 0 and len(history_of(split, stage)) > 0


def hold_out(
    interactions: Interactions,
    catalogue: Catalogue,
    *,
    split: str,
    seed: int,
    cut: TimeCut | None = None,
    users: Users | None = None,
) -> list[UserSplit]:
    """Split every user's interactions in time.

    ``leave_one_out``: the last is test, the second-last validation, the rest trains.
    ``last_fifth``: of n interactions the last ⌊n/5⌋ are test, the ⌊n/10⌋ before them
    validation (each at least one), the rest (at least one) trains.
    ``time_cut``: what is older than ``cut[0]`` trains, what is older than ``cut[1]``
    validates, the rest is test, the same times for all users.

    Args:
        interactions: Checked interactions of any set of users.
        catalogue: The catalogue that `interactions.item` indexes.
        split: ``leave_one_out``, ``last_fifth`` or ``time_cut``.
        seed: Seeds the order of interactions with equal timestamps, nothing else.
        cut: Of ``time_cut`` alone.
        users: Attributes that the splits are to carry, aligned with `interactions.user_ids`.

    Returns:
        One split for each user, in the order of `interactions.user_ids`.

    Raises:
        DataError: The split is unknown, a user has fewer than 3 interactions, or a time cut
            has no times.
    """
    if split not in ("leave_one_out", "last_fifth", "time_cut"):
        raise DataError(f"unknown split {split!r}; use leave_one_out, last_fifth or time_cut")
    if split == "time_cut":
        cut = _known(cut)
    order = chronological(interactions, catalogue, seed)
    count = len(interactions.user_ids)
    lengths = np.bincount(interactions.user, minlength=count)
    if count and lengths.min() < MIN_INTERACTIONS:
        short = int(lengths.argmin())
        raise DataError(
            f"user {interactions.user_ids[short]!r} has {lengths[short]} interactions, a split "
            f"needs {MIN_INTERACTIONS}; build the data set with min_interactions ≥ 3"
        )
    ends = np.cumsum(lengths)
    return [
        replace(
            _split_user(
                interactions, user, order[ends[user] - lengths[user] : ends[user]], split, cut
            ),
            attributes=_attributes(users, user),
        )
        for user in range(count)
    ]


def _attributes(users: Users | None, user: int) -> dict[str, str]:
    """Those of the user at this place, by name."""
    return {} if users is None else {n: each[user] for n, each in users.attributes.items()}


def train_lengths(
    user: Int64Array, timestamp: Int64Array, users: int, *, split: str, cut: TimeCut | None
) -> Int64Array:
    """How many interactions of each user train: as `hold_out`.

    Args:
        user: ``[N]`` int64, whose interaction it is.
        timestamp: ``[N]`` int64, unix seconds.
        users: U.
        split: As in `hold_out`.
        cut: As in `hold_out`.

    Returns:
        ``[U]`` int64.

    Raises:
        DataError: A time cut has no times.
    """
    if split == "time_cut":
        return np.bincount(user[timestamp < _known(cut)[0]], minlength=users).astype(np.int64)
    lengths = np.bincount(user, minlength=users)
    test, validation = _held_out(lengths, split)
    return np.asarray(lengths - test - validation, dtype=np.int64)


def _known(cut: TimeCut | None) -> TimeCut:
    if cut is None:
        raise DataError(
            "data.split=time_cut needs the two times that all sites share; set "
            "data.validation_from and data.test_from (unix seconds)"
        )
    return cut


def _held_out(lengths: Any, split: str) -> tuple[Any, Any]:
    """Interactions that test and that validate, of each length."""
    if split == "leave_one_out":
        return np.ones_like(lengths), np.ones_like(lengths)
    return np.maximum(1, lengths // 5), np.maximum(1, lengths // 10)


def _split_user(
    interactions: Interactions,
    user: int,
    rows: npt.NDArray[np.intp],
    split: str,
    cut: TimeCut | None,
) -> UserSplit:
    if cut is not None and split == "time_cut":
        first_validation, first_test = np.searchsorted(interactions.timestamp[rows], cut)
    else:
        test, validation = (int(part) for part in _held_out(np.int64(len(rows)), split))
        first_test = len(rows) - test
        first_validation = first_test - validation
    return UserSplit(
        user_id=interactions.user_ids[user],
        train=_sequence(interactions, rows[:first_validation]),
        validation=_sequence(interactions, rows[first_validation:first_test]),
        test=_sequence(interactions, rows[first_test:]),
    )


def _sequence(interactions: Interactions, rows: npt.NDArray[np.intp]) -> ItemSequence:
    return ItemSequence(
        interactions.item[rows], interactions.rating[rows], interactions.timestamp[rows]
    )


def chronological(
    interactions: Interactions, catalogue: Catalogue, seed: int
) -> npt.NDArray[np.intp]:
    """Rows of `interactions` sorted by user, timestamp and tie hash."""
    by_time = np.lexsort((interactions.timestamp, interactions.user))
    user, time = interactions.user[by_time], interactions.timestamp[by_time]
    same_as_next = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    tied = np.zeros(len(user), dtype=np.bool_)
    tied[1:] |= same_as_next
    tied[:-1] |= same_as_next
    tie_hash = np.zeros(len(user), dtype=np.uint64)
    for row in by_time[tied]:
        user_id = interactions.user_ids[interactions.user[row]]
        tie_hash[row] = _tie_hash(seed, user_id, catalogue.item_ids[interactions.item[row]])
    # The item index only decides where two 64-bit hashes are equal.
    return np.lexsort((interactions.item, tie_hash, interactions.timestamp, interactions.user))


def _tie_hash(seed: int, user_id: str, item_id: str) -> int:
    text = json.dumps([seed, user_id, item_id])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

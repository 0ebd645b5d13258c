"""Moments at which recommendations are asked for: the histories, and what else is known then.

What is known when a user opens a page: the history, the user's attributes at the site, and
the time. Nothing of the item that the user then takes is among it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from common.errors import DataError
from common.holdout import Stage, UserSplit, history_of, is_judged, targets_of
from common.interactions import Int64Array


@dataclass(frozen=True, eq=False)
class Requests(Sequence[Int64Array]):
    """U requests. As a sequence it holds their histories, which is all that most scorers read.

    Attributes:
        histories: U arrays of item indices, oldest first.
        moments: int64 ``[U]``, unix seconds of the request.
        previous: int64 ``[U]``, unix seconds of the history's last interaction.
        attributes: U mappings of attribute names to values.
    """

    histories: Sequence[Int64Array]
    moments: Int64Array
    previous: Int64Array
    attributes: Sequence[Mapping[str, str]]

    def __post_init__(self) -> None:
        """Checks that there is one of each per request."""
        lengths = [len(part) for part in vars(self).values()]
        if len(set(lengths)) != 1:
            raise DataError(
                f"requests have {lengths} histories, moments, previous times and attributes; "
                "give one of each per request"
            )

    def __len__(self) -> int:
        return len(self.histories)

    @overload
    def __getitem__(self, index: int) -> Int64Array: ...
    @overload
    def __getitem__(self, index: slice) -> Requests: ...
    def __getitem__(self, index: int | slice) -> Int64Array | Requests:
        """One history, or the requests of a slice."""
        if not isinstance(index, slice):
            return self.histories[index]
        return Requests(
            self.histories[index], self.moments[index], self.previous[index], self.attributes[index]
        )


def requests_of(splits: Sequence[UserSplit], stage: Stage) -> Requests:
    """The requests whose answers are judged at this stage: one per user.

    A user with several targets asks once, at the time of the first one: the times of the
    others lie in the future of that page.

    Args:
        splits: Users with a history and a target at this stage (`common.holdout.is_judged`).
        stage: ``validation`` or ``test``.

    Raises:
        DataError: A user has no history or no target.
    """
    for split in splits:
        if not is_judged(split, stage):
            raise DataError(
                f"a user with {len(history_of(split, stage))} items of history and "
                f"{len(targets_of(split, stage))} {stage} items makes no request to judge; "
                "leave such users out"
            )
    held_out = [split.validation if stage == "validation" else split.test for split in splits]
    return Requests(
        histories=[history_of(split, stage) for split in splits],
        moments=_times([part.timestamps[0] for part in held_out]),
        previous=_times([_last_time(split, stage) for split in splits]),
        attributes=[split.attributes for split in splits],
    )


def _last_time(split: UserSplit, stage: Stage) -> np.int64:
    use_validation = stage == "test" and len(split.validation) > 0
    last: np.int64 = (split.validation if use_validation else split.train).timestamps[-1]
    return last


def _times(values: Sequence[np.int64]) -> Int64Array:
    return np.array(values, dtype=np.int64)

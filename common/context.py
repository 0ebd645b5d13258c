"""Context features: what is known of a user, and of the moment, beside the history.

``user``: the attributes of the site's users table, each name and value hashed into one of
`model.context_dim` buckets; a column ``age`` counts by its band. ``time``: hour of day and
day of week (UTC) as points on a circle, and the logarithm of the time since the interaction
before. The encoding is public and looks at no data: no site needs another's vocabulary, and
any two sites encode alike. The features enter the user's side of the score as input and
never leave the site.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from common.age_bands import UNKNOWN, age_band
from common.config import ModelConfig
from common.context_names import context_names
from common.errors import DataError
from common.interactions import Float32Array, Int64Array
from common.requests import Requests

TIME_FEATURES = 5
_DAY, _WEEK = 86_400, 7 * 86_400
_LONG_PAUSE = math.log1p(30 * _DAY)  # a pause of thirty days has the feature 1


@dataclass(frozen=True, eq=False)
class UnitContext:
    """Context of a unit, should any of its items be the target.

    Attributes:
        user: ``[a]`` float32, of the user; ``[0]`` where none is asked for.
        time: ``[n, t]`` float32, of the moment of each item; ``[n, 0]`` likewise.
    """

    user: Float32Array
    time: Float32Array

    @property
    def nbytes(self) -> int:
        """Of the arrays."""
        return self.user.nbytes + self.time.nbytes

    def shown(self, places: slice) -> UnitContext:
        """That of the items in `places`."""
        return UnitContext(self.user, self.time[places])

    def at(self, positions: Int64Array) -> Float32Array:
        """``[m, a + t]`` for the targets at `positions` ``[m]``."""
        users = np.broadcast_to(self.user, (len(positions), len(self.user)))
        return np.concatenate([users, self.time[positions]], axis=1)


@dataclass(frozen=True)
class ContextEncoder:
    """The public encoding that a configuration names.

    Attributes:
        buckets: Of attributes; 0: the model reads none.
        times: Features of the moment; 0: the model reads none.
    """

    buckets: int = 0
    times: int = 0

    @classmethod
    def of(cls, model: ModelConfig) -> ContextEncoder:
        """That of `model.context`."""
        names = context_names(model.context)
        return cls(
            model.context_dim if "user" in names else 0, TIME_FEATURES if "time" in names else 0
        )

    @property
    def width(self) -> int:
        """Features in all; 0: no context."""
        return self.buckets + self.times

    def of_user(self, attributes: Mapping[str, str]) -> Float32Array:
        """``[a]``: how many attributes fall into each bucket; an unknown one into none.

        Raises:
            DataError: Attributes are asked for, and the data have none.
        """
        features = np.zeros(self.buckets, dtype=np.float32)
        if self.buckets:
            check_attributes(self, attributes)
            for name, value in attributes.items():
                known = age_band(value) if name.lower() == "age" else value
                if known != UNKNOWN:
                    features[_bucket(name.lower(), known.lower(), self.buckets)] += 1
        return features

    def of_times(self, moments: Int64Array, previous: Int64Array) -> Float32Array:
        """``[n, t]`` of `moments` ``[n]``, the interactions before being at `previous` ``[n]``.

        The moment of the interaction before counts as a pause of 0, and so does a first one.
        """
        if not self.times:
            return np.zeros((len(moments), 0), dtype=np.float32)
        pause = np.log1p(np.maximum(moments - previous, 0)) / _LONG_PAUSE
        return np.stack([*_circle(moments, _DAY), *_circle(moments, _WEEK), pause], axis=1).astype(
            np.float32
        )

    def of_unit(self, attributes: Mapping[str, str], timestamps: Int64Array) -> UnitContext | None:
        """Of a user's training items at `timestamps` ``[n]``; None without context."""
        if self.width == 0:
            return None
        previous = np.concatenate([timestamps[:1], timestamps[:-1]])
        return UnitContext(self.of_user(attributes), self.of_times(timestamps, previous))

    def of_requests(self, histories: Sequence[Int64Array]) -> Float32Array:
        """``[U, a + t]`` of requests.

        Raises:
            DataError: There are histories alone, without what the model reads beside them.
        """
        if not isinstance(histories, Requests):
            raise DataError(
                "a model with context reads requests, got histories alone; pass "
                "common.requests.Requests, or train with model.context= empty"
            )
        users = [self.of_user(attributes) for attributes in histories.attributes]
        user = np.array(users, dtype=np.float32).reshape(len(histories), self.buckets)
        time = self.of_times(histories.moments, histories.previous)
        return np.concatenate([user, time], axis=1)


NO_CONTEXT = ContextEncoder()


def check_attributes(encoder: ContextEncoder, attributes: Mapping[str, object]) -> None:
    """Refuses data without attributes where the model reads them.

    Raises:
        DataError: The users table has no column of attributes, or there is no such table.
    """
    if encoder.buckets and not attributes:
        raise DataError(
            "model.context=user needs attributes of the users, and the users table has none; give "
            "it a column beside user_id, or leave `user` out of model.context"
        )


@lru_cache(maxsize=65_536)
def _bucket(name: str, value: str, buckets: int) -> int:
    """The public hash: no key, the same at every site."""
    digest = hashlib.sha256(json.dumps([name, value]).encode()).digest()
    return int.from_bytes(digest[:8], "big") % buckets


def _circle(moments: Int64Array, period: int) -> tuple[npt.NDArray[np.float64], ...]:
    angle = (moments % period) * (2 * np.pi / period)
    return np.sin(angle), np.cos(angle)

"""Signed requests that were made before.

Flower's SuperNode signs the time of each request, and the SuperLink takes such a signature for
five minutes, on any number of requests and on any body. TLS keeps it from strangers; the gate
sees to it that each signed time counts once, whoever has got hold of it. Kept in memory, because
the gate writes nothing; a gate that is started anew takes no time that was signed before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

KEPT_S = 320.0
"""Longer than the SuperLink takes a signature: 300 s, and 5 s for clocks on either side."""

FAST_CLOCK_S = 5.0
"""So far ahead of its own clock the SuperLink takes a signature."""


class SignedTimes:
    """The times that nodes have signed, each to be taken once."""

    def __init__(
        self, started: datetime | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Knows of no time yet.

        Args:
            started: when the gate was; until then another may have taken times. None: none has.
            clock: in seconds.
        """
        ahead = timedelta(seconds=FAST_CLOCK_S)
        self._unknown_until = None if started is None else started + ahead
        self._clock = clock
        self._taken: dict[tuple[str, str], float] = {}  # oldest first

    def may_be_known(self, signed: str) -> bool:
        """Whether a gate before this one may have taken this time."""
        if self._unknown_until is None:
            return False
        try:
            moment = datetime.fromisoformat(signed)
        except ValueError:
            return False  # the SuperLink refuses it
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return aware <= self._unknown_until

    def take(self, site: str, signed: str) -> bool:
        """Whether the site's node has not used this time yet; from now on it has."""
        now = self._clock()
        while self._taken and now - next(iter(self._taken.values())) > KEPT_S:
            del self._taken[next(iter(self._taken))]
        if (site, signed) in self._taken:
            return False
        self._taken[site, signed] = now
        return True

    def give_back(self, site: str, signed: str) -> None:
        """The SuperLink found that the node did not sign this time: it was never used."""
        self._taken.pop((site, signed), None)

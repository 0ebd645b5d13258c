"""Signed requests that were made before.

Flower's SuperNode signs the time of each request, and the SuperLink takes such a signature for
five minutes, on any number of requests and on any body. TLS keeps it from strangers; the gate
sees to it that each signed time counts once, whoever has got hold of it. Kept in memory: a
gate that is started anew has forgotten the last five minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

KEPT_S = 320.0
"""Longer than the SuperLink takes a signature: 300 s, and 5 s for clocks on either side."""


class SignedTimes:
    """The times that nodes have signed, each to be taken once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: dict[tuple[str, str], float] = {}  # oldest first

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

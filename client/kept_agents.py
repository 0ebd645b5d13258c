"""The site agents that a process keeps between messages: few of many, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from client.site_data import SiteData
from common.privacy_units import Unit

Agent = TypeVar("Agent")

MAX_BYTES = 256 * 2**20
"""Of all kept agents together; the one that was asked last is kept whatever its size."""

_AGENT_BYTES = 24 * 1024
"""What an agent takes without any data: ledger, keys, policy and the objects themselves."""
_ROW_BYTES = 64
_UNIT_BYTES = 1024


class KeptAgents(Generic[Agent]):
    """The agents that were asked last, as many as fit."""

    def __init__(self, weigh: Callable[[Agent], int], max_bytes: int = MAX_BYTES) -> None:
        """Binds the bound.

        Args:
            weigh: bytes that an agent takes.
            max_bytes: of all kept agents.
        """
        self._weigh = weigh
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, tuple[Agent, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Agent], at_most: int = 0) -> Agent:
        """The agent of `key`, made where it is not kept.

        Args:
            key: names it.
            make: makes it.
            at_most: agents to keep, this one included; 0: as many as fit.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found[0]
        agent = make()
        with self._lock:
            self._put(key, agent, self._weigh(agent))
            while len(self._kept) > 1 and (
                self._bytes > self._max_bytes or 0 < at_most < len(self._kept)
            ):
                _, (_, dropped) = self._kept.popitem(last=False)
                self._bytes -= dropped
        return agent

    def clear(self) -> None:
        """Drops all."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _put(self, key: Hashable, agent: Agent, size: int) -> None:
        if key in self._kept:  # another thread made it meanwhile
            self._bytes -= self._kept.pop(key)[1]
        self._kept[key] = (agent, size)
        self._bytes += size


def agent_bytes(data: SiteData, units: list[Unit]) -> int:
    """About what an agent takes: its rows, its units' arrays, and a share for the rest."""
    arrays = sum(each.items.nbytes + each.ratings.nbytes + each.positives.nbytes for each in units)
    arrays += sum(each.context.nbytes for each in units if each.context is not None)
    return _AGENT_BYTES + _ROW_BYTES * len(data.interactions) + _UNIT_BYTES * len(units) + arrays

"""A link that can be cut, can fall silent or slow: a TCP proxy in a thread of the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

PIECE = 4096
POLL_S = 0.05


@dataclass(frozen=True)
class LinkState:
    """How a link is now.

    Attributes:
        is_cut: connections end at once, open ones too.
        is_silent: nothing passes and nothing is closed.
        bytes_s: at most; 0: as fast as it goes.
        latency_s: for each piece, each way.
    """

    is_cut: bool = False
    is_silent: bool = False
    bytes_s: float = 0.0
    latency_s: float = 0.0


WELL = LinkState()


class Link:
    """A listening port in front of another one, both on this machine."""

    def __init__(self, target: int) -> None:
        """`target` is the port that well connections reach."""
        self.port = 0
        self.carried = 0
        self._target, self._state = target, WELL
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._wait(asyncio.start_server(self._converse, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]

    def set(self, state: LinkState) -> None:
        """Changes the link, for connections that are open, too."""
        self._state = state
        if state.is_cut:
            self._loop.call_soon_threadsafe(self._end_all)

    def close(self) -> None:
        """Ends the port and all connections."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._end_all)
        self._wait(asyncio.sleep(0.05))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def _wait(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=10)

    def _end_all(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far: asyncio.StreamWriter | None = None
        with suppress(OSError, asyncio.CancelledError):
            if not self._state.is_cut:
                while self._state.is_silent:
                    await asyncio.sleep(POLL_S)
                far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
                await self._both_ways(reader, writer, far_reader, far)
        self._tasks.discard(task)
        for each in (writer, far):
            if each is not None:
                each.transport.abort()  # as a cut looks to the peer: a reset

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far: asyncio.StreamWriter,
    ) -> None:
        ways = [
            asyncio.ensure_future(self._carry(reader, far)),
            asyncio.ensure_future(self._carry(far_reader, writer)),
        ]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(PIECE):
            if self._state.latency_s:
                await asyncio.sleep(self._state.latency_s)
            if self._state.bytes_s:
                await asyncio.sleep(len(piece) / self._state.bytes_s)
            while self._state.is_silent:
                await asyncio.sleep(POLL_S)
            self.carried += len(piece)
            sink.write(piece)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()

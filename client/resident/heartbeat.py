"""The agent's file of figures, written at fixed times: nothing new listens in the agent.

The agent has no network (``PrivateNetwork=yes``), and whoever parses requests beside private
data is a way in. So it writes a file in the folder of its socket, in Prometheus' text format;
`fedrec-site monitor`, another process of another user, serves that, or node_exporter's textfile
collector picks it up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from client.resident.site_metrics import SiteMetrics

EVERY_S = 10.0

logger = logging.getLogger("fedrec-site")


def figures_file(socket: Path) -> Path:
    """The file of figures of the agent that listens on `socket`."""
    return socket.with_suffix(".prom")


class Heartbeat:
    """Writes the figures of one agent every `every_s` seconds, from a thread of its own."""

    def __init__(self, path: Path, metrics: SiteMetrics, every_s: float = EVERY_S) -> None:
        self._path, self._metrics, self._every_s = path, metrics, every_s
        self._look: Callable[[SiteMetrics], None] | None = None
        self._has_ended = threading.Event()
        self._could_write = True

    def serve(self, look: Callable[[SiteMetrics], None]) -> None:
        """From now on `look` says before each write whether the agent is well."""
        self._look = look
        self.beat()

    def beat(self) -> None:
        """Looks and writes once; a disk that refuses is told once, and tried again."""
        try:
            if self._look is not None:
                self._look(self._metrics)
            self._metrics.write(self._path)
        except OSError as error:
            if self._could_write:
                logger.warning("the file of figures cannot be written: %s", error.strerror)
            self._could_write = False
        else:
            self._could_write = True

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beats while the block runs; then the file is gone."""
        self.beat()
        thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._has_ended.set()
            thread.join()
            with suppress(OSError):
                self._path.unlink()

    def _run(self) -> None:
        while not self._has_ended.wait(self._every_s):
            self.beat()

"""SIGTERM and SIGINT end the agent, whatever any of its threads is doing.

A handler of Python's own would wait for the main thread, which may be deep in a training,
and what it raises there can be swallowed by whatever runs at that moment. So the signals are
blocked in all threads, and one thread waits for them. This module imports nothing heavy: it
must come before the libraries that start threads of their own when they are imported.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("fedrec-site")


class EndOnSignals:
    """Ends the process on SIGTERM or SIGINT, from the moment that it is made.

    The end is that of a power cut, for which the ledger is made: what was charged stays
    charged, and a retry gets the same bytes.

    Attributes:
        socket: the socket file that goes with the process, once it is this process's own.
        figures: the file of the agent's figures, which goes with it, too.
    """

    def __init__(self) -> None:
        """Blocks the signals in this thread, and so in all that are started later."""
        self.socket: Path | None = None
        self.figures: Path | None = None
        signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    def _wait(self) -> None:
        number = signal.sigwait(_NUMBERS)
        logger.info("%s: the agent ends; the ledger is whole", signal.Signals(number).name)
        for left in filter(None, (self.socket, self.figures)):
            with suppress(OSError):  # the next agent replaces it
                left.unlink()
        os._exit(0)


_NUMBERS = {signal.SIGTERM, signal.SIGINT}

"""SIGTERM and SIGINT end the service in order: what is in flight is answered first.

This module imports nothing heavy: the signals are blocked before libraries start threads.
"""

from __future__ import annotations

import os
import signal
import threading

_NUMBERS = {signal.SIGTERM, signal.SIGINT}


class EndInOrder:
    """Waits for the first signal; a second one ends the process at once.

    Before `ready` the first one does so too: nothing is in flight yet.
    """

    def __init__(self) -> None:
        """Blocks the signals in this thread, and so in all that are started later."""
        self._ready = threading.Event()
        self._asked = threading.Event()
        signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    def ready(self) -> None:
        """From now on there may be something in flight."""
        self._ready.set()

    def wait(self) -> None:
        """Returns when the end is asked for."""
        self._asked.wait()

    def _wait(self) -> None:
        number = signal.sigwait(_NUMBERS)
        if not self._ready.is_set():
            os._exit(128 + number)
        self._asked.set()
        os._exit(128 + signal.sigwait(_NUMBERS))

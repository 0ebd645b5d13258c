"""An interruption that is not lost: Ctrl-C counts even where Python drops its exception.

Python raises ``KeyboardInterrupt`` wherever the main thread is. Where that is a callback whose
exceptions are only printed (a finaliser, the clean-up of an import's lock), the program would
go on as if nobody had asked it to stop.
"""

from __future__ import annotations

import signal
from types import FrameType


class Interruption:
    """Whether this process was asked to stop by SIGINT; raised anew until it does.

    Attributes:
        asked: whether it was.
    """

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """Take SIGINT from now on, also where this process inherited that it is ignored."""
        signal.signal(signal.SIGINT, self._interrupt)

    def raise_if_asked(self) -> None:
        """Stop here where the exception of an earlier SIGINT was lost.

        Raises:
            KeyboardInterrupt: this process was asked to stop.
        """
        if self.asked:
            raise KeyboardInterrupt

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        raise KeyboardInterrupt

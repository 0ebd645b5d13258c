"""An interruption whose exception is lost still ends a run of a sweep."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from simulations.sweeps.interruption import Interruption
from simulations.sweeps.run_process import EventListener


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = signal.getsignal(signal.SIGINT)
    listening = Interruption()
    listening.listen()
    yield listening
    signal.signal(signal.SIGINT, before)


HEARINGS: list[Callable[[EventListener], None]] = [
    lambda listener: listener.run_started(3),
    lambda listener: listener.round_started(1),
    lambda listener: listener.site_finished(1, "north"),
    lambda listener: listener.message("loading"),
]


@pytest.mark.parametrize("hear", HEARINGS)
def test_a_lost_interruption_is_raised_at_the_next_step(
    interruption: Interruption, hear: Callable[[EventListener], None]
) -> None:
    told = io.StringIO()
    listener = EventListener(told, interruption)
    hear(listener)
    before = told.getvalue()
    with suppress(KeyboardInterrupt):  # as a finaliser does
        os.kill(os.getpid(), signal.SIGINT)
        interruption.raise_if_asked()
    with pytest.raises(KeyboardInterrupt):
        hear(listener)
    assert told.getvalue() == before


def test_the_signal_itself_interrupts_at_once(interruption: Interruption) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interruption.raise_if_asked()

"""Ends what one simulated run has started: its processes carry a mark in their environment.

A SuperLink starts a SuperExec, that a simulation, that Ray's daemons, and some of them
detach. None can shed its environment, so the mark finds them all, and nobody else's.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

import psutil

MARK = "FEDREC_ENGINE"
TERMINATE_S = 10.0
KILL_S = 5.0


def marked_processes(mark: str) -> list[psutil.Process]:
    """The live processes, other than this one, whose environment carries `mark`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:  # another user's, a zombie, or gone meanwhile: not ours to end
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def end_marked_processes(mark: str) -> list[int]:
    """Terminates, then kills, every process that carries `mark`, and all below them.

    Some of Ray's processes overwrite their environment to show a title, so that a mark can
    be lost; as children of marked ones they are found all the same.

    Returns:
        Ids of the processes that are alive even so; empty in every ordinary case.
    """
    victims = _with_descendants(marked_processes(mark))
    for end, patience in (("terminate", TERMINATE_S), ("kill", KILL_S)):
        for victim in victims:
            with suppress(psutil.NoSuchProcess):  # it ended by itself, as it should
                getattr(victim, end)()
        alive = _alive_after(victims, patience)
        victims = _with_descendants([*alive, *marked_processes(mark)])
        if not victims:
            break
    return [process.pid for process in victims]


def _alive_after(processes: list[psutil.Process], patience: float) -> list[psutil.Process]:
    """Waits until none of `processes` runs, `patience` seconds at most."""
    end = time.monotonic() + patience
    while (alive := _running(processes)) and time.monotonic() < end:
        time.sleep(0.05)
    return alive


def _with_descendants(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = {process.pid: process for process in processes}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found |= {child.pid: child for child in process.children(recursive=True)}
    return list(found.values())


def _running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie only waits for its parent to take notice."""
    running = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running

"""Ends what one simulated run has started: its processes carry a mark in their environment.

A SuperLink starts a SuperExec, that a simulation, that Ray's daemons, and some of them
detach. None can shed its environment, so the mark finds them all, and nobody else's.
"""

from __future__ import annotations

import os
import time

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
    """Terminates, then kills, every process that carries `mark`.

    Returns:
        Ids of the processes that are alive even so; empty in every ordinary case.
    """
    _signal(marked_processes(mark), kill=False)
    if not _gone(mark, TERMINATE_S):
        _signal(marked_processes(mark), kill=True)
        _gone(mark, KILL_S)
    return [process.pid for process in marked_processes(mark)]


def _signal(processes: list[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            process.kill() if kill else process.terminate()
        except psutil.NoSuchProcess:  # it ended by itself meanwhile, as it should
            continue


def _gone(mark: str, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while marked_processes(mark):
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
    return True

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import psutil
import pytest

from simulations.engines import processes
from simulations.engines.processes import MARK, end_marked_processes, marked_processes

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('ready', flush=True); time.sleep(60)"
)


def start(code: str, mark: str | None) -> subprocess.Popen[str]:
    environment = dict(os.environ) | ({MARK: mark} if mark else {})
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_the_mark_finds_detached_grandchildren_and_nobody_else() -> None:
    mark = uuid.uuid4().hex
    grandchild = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)'], start_new_session=True, stdout=subprocess.DEVNULL);"
        "print('ready', flush=True)"
    )
    parent, other = start(grandchild, mark), start(STUBBORN, None)
    try:
        parent.communicate()
        found = marked_processes(mark)
        assert len(found) == 1  # the parent is gone, the grandchild is not
        assert end_marked_processes(mark) == []
        assert marked_processes(mark) == []
        gone = not found[0].is_running() or found[0].status() == psutil.STATUS_ZOMBIE
        assert gone  # a zombie where process 1 does not collect orphans
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()


def test_what_ignores_terminate_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "TERMINATE_S", 0.3)
    mark = uuid.uuid4().hex
    process = start(STUBBORN, mark)
    assert end_marked_processes(mark) == []
    process.communicate()
    assert process.returncode == -9


def test_this_process_is_never_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "own")
    assert psutil.Process().pid not in [p.pid for p in marked_processes("own")]


def test_a_child_that_lost_the_mark_ends_with_its_parent() -> None:
    # As Ray's processes do when they overwrite their environment to show a title.
    mark = uuid.uuid4().hex
    unmarked_child = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)'], env={}, stdout=subprocess.DEVNULL);"
        "print('ready', flush=True); time.sleep(60)"
    )
    parent = start(unmarked_child, mark)
    (child,) = psutil.Process(parent.pid).children()
    try:
        assert [p.pid for p in marked_processes(mark)] == [parent.pid]
        assert end_marked_processes(mark) == []
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    finally:
        parent.communicate()

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simulations.sweeps.planning import PlannedRun
from simulations.sweeps.run_pool import LOG_FILE, RunEnd, RunPool, usable_cores
from simulations.sweeps.sweep_folder import SweepFolder
from tests.simulations.sweeps.conftest import Planned

# Real processes, which do not train: what they do is a file's text.
CHILD = """
import json, os, signal, sys, time
folder = sys.argv[-1]
say = lambda **event: print(json.dumps(event), flush=True)
"""


class Heard:
    """Keeps what a watcher hears."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    def run_began(self, run: PlannedRun) -> None:
        self.events.append((run.path, "began"))

    def run_told(self, run: PlannedRun, event: Mapping[str, Any]) -> None:
        self.events.append((run.path, dict(event)))

    def run_ended(self, run: PlannedRun, end: RunEnd) -> None:
        self.events.append((run.path, end.exit_code))


def pool_of(tmp_path: Path, text: str, jobs: int = 1) -> tuple[RunPool, Heard, SweepFolder]:
    script = tmp_path / "child.py"
    script.write_text(CHILD + text, encoding="utf-8")
    heard, folder = Heard(), SweepFolder(tmp_path / "sweep")
    return RunPool(folder, heard, jobs=jobs, command=(sys.executable, str(script))), heard, folder


def test_a_failed_run_stops_no_other(tmp_path: Path, planned: Planned) -> None:
    _, runs = planned(seeds=1)
    _, more = planned(rounds=("3", "4"), seeds=1)
    pool, heard, folder = pool_of(
        tmp_path,
        "say(rounds=2)\n"
        "if 'rounds=1' in folder: say(fault='no data'); sys.exit(2)\n"
        "if 'rounds=2' in folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        "if 'rounds=3' in folder: raise ValueError('ours')\n",
    )
    ends = pool.run([*runs, *more])
    one, two, three, four = (ends[run.path] for run in [*runs, *more])
    assert (one.exit_code, one.fault) == (2, "no data")
    assert two.exit_code == -signal.SIGKILL
    assert "was ended by SIGKILL" in two.fault
    assert three.exit_code == 1
    assert "exit code 1" in three.fault
    assert LOG_FILE in three.fault
    assert "ValueError: ours" in (folder.run_path(more[0]) / LOG_FILE).read_text()
    assert four == RunEnd(0)
    assert heard.events[:3] == [
        (runs[0].path, "began"),
        (runs[0].path, {"rounds": 2}),
        (runs[0].path, {"fault": "no data"}),
    ]


def test_runs_share_the_machine(tmp_path: Path, planned: Planned) -> None:
    _, runs = planned()
    pool, _, folder = pool_of(
        tmp_path,
        "open(folder + '/cores', 'w').write(os.environ['OMP_NUM_THREADS'])\n"
        "end = time.time() + 20\n"
        "me, other = ('seed-0', 'seed-1') if 'seed-0' in folder else ('seed-1', 'seed-0')\n"
        "while not os.path.exists(folder.replace(me, other) + '/cores'):\n"
        "    time.sleep(0.01)\n"
        "    assert time.time() < end, 'the two did not run at one time'\n",
        jobs=2,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        ends = pool.run(runs[:2])
    assert set(ends.values()) == {RunEnd(0)}
    threads = max(1, usable_cores() // 2)
    text = (folder.run_path(runs[0]) / "config.toml").read_text()
    assert f"threads = {threads}" in text
    assert (folder.run_path(runs[0]) / "cores").read_text() == str(threads)


def test_an_interruption_leaves_no_process(tmp_path: Path, planned: Planned) -> None:
    _, runs = planned()
    pool, heard, folder = pool_of(
        tmp_path,
        "open(folder + '/pid', 'w').write(str(os.getpid()))\nsay(rounds=1)\ntime.sleep(60)\n",
    )

    def interrupt() -> None:
        while not any(event == {"rounds": 1} for _, event in heard.events):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    # A suite that a shell started in the background inherits an ignored SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.run(runs)
    finally:
        signal.signal(signal.SIGINT, before)
    pid = int((folder.run_path(runs[0]) / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not folder.run_path(runs[1]).exists()
    assert (runs[0].path, "began") in heard.events

"""Runs a subject in a fresh process and watches the memory of all that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.engine.gpu import Utilisation
from benchmarks.engine.measurement import Measurement, Task
from benchmarks.engine.subject_process import NOT_AVAILABLE
from benchmarks.engine.tree_memory import TreeMemory

POLL_S = 0.5  # of /proc: about 1% of a core
LIMIT_S = 900.0
LOG_LINES = 4


@dataclass(frozen=True)
class Outcome:
    """What came of one process: a measurement, or one line that says why there is none.

    Attributes:
        measurement: None where the subject failed or cannot run here.
        reason: why, then.
        failed: whether that was a failure (and not an absent library or key).
        peak_bytes: most memory that the process and all below it were seen to hold at one
            time: their own pages, and the largest set of mapped files once.
        peak_bytes_bound: the sum of each process's own peak, which no poll can miss.
        wall_seconds: from start to end of the process.
        gpu_utilisation: mean per cent while it ran; None without a GPU or nvidia-ml-py.
    """

    measurement: Measurement | None
    reason: str
    failed: bool
    peak_bytes: int
    peak_bytes_bound: int
    wall_seconds: float
    gpu_utilisation: float | None


@dataclass
class _Watched:
    """The process tree of a subject."""

    root: psutil.Process
    memory: TreeMemory = field(default_factory=TreeMemory)
    seen: dict[int, psutil.Process] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def poll(self) -> None:
        while not self.stop.wait(POLL_S):
            with suppress(psutil.Error):
                below = self.root.children(recursive=True)
                self.seen |= {process.pid: process for process in below}
                self.memory.see([self.root.pid, *(process.pid for process in below)])

    def end_all(self) -> None:
        """Ends what the subject started and left behind."""
        left = [process for process in [self.root, *self.seen.values()] if process.is_running()]
        for process in left:
            with suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(left, timeout=5)
        for process in alive:
            with suppress(psutil.Error):
                process.kill()


def run_isolated(task: Task, module: str = "benchmarks.engine.subject_process") -> Outcome:
    """Runs `module` on `task` in a process of its own; a failure is an outcome, not an error."""
    with tempfile.TemporaryDirectory(dir=task.scratch) as own:
        folder = Path(own)
        task_file = task.write(folder / "task.json")
        result, log = folder / "result.json", folder / "log.txt"
        started = time.monotonic()
        with ExitStack() as stack:
            output = stack.enter_context(log.open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(task_file), str(result)],
                env=_environment(task, folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            watched = _Watched(psutil.Process(process.pid))
            stack.callback(watched.end_all)
            utilisation = stack.enter_context(Utilisation.of(task.device))
            _watch(stack, watched.poll, watched.stop)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=LIMIT_S)
        wall = time.monotonic() - started
        answer = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
        return _outcome(answer, _last_lines(log), watched.memory, wall, utilisation.mean)


def _watch(stack: ExitStack, poll: Callable[[], None], stop: threading.Event) -> None:
    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(stop.set)  # called first


def _environment(task: Task, folder: Path) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    threads = str(task.threads)
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "HF_HUB_OFFLINE": "1",
        "FLWR_HOME": str(folder / "flwr"),
        "FEDREC_STATE": str(folder / "state"),
    }


def _outcome(
    answer: dict[str, Any], log: str, memory: TreeMemory, wall: float, utilisation: float | None
) -> Outcome:
    measurement, reason, failed = None, "", False
    if NOT_AVAILABLE in answer:
        reason = str(answer[NOT_AVAILABLE])
    elif not answer:
        reason, failed = f"failed: {log}", True
    else:
        answer |= {"samples": tuple(answer["samples"]), "notes": tuple(answer["notes"])}
        measurement = Measurement(**answer)
    return Outcome(measurement, reason, failed, memory.peak, memory.bound, wall, utilisation)


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return " | ".join([line.strip() for line in lines if line.strip()][-LOG_LINES:])

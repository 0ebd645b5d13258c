"""Runs of a sweep, several at a time, each in a process of its own.

A run that fails stops no other. An interruption stops the processes that are under way and
keeps what is on the disk.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common.atomic_files import file_errors
from common.command_line import EXIT_INTERRUPTED
from common.config import RunConfig
from common.run_folder import RunFolder
from simulations.sweeps.planning import PlannedRun
from simulations.sweeps.runs_folder import RunsFolder

RUN_COMMAND = (sys.executable, "-m", "simulations.sweeps.run_process")
LOG_FILE = "run.log"
END_S = 20.0
"""Seconds that a stopped run has to be gone."""


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: its exit code, and in one line what was wrong (empty: nothing)."""

    exit_code: int
    fault: str = ""


class SweepWatcher(Protocol):
    """Hears how the runs of a sweep get on; called from several threads."""

    def run_began(self, run: PlannedRun) -> None:
        """A run's process was started."""

    def run_told(self, run: PlannedRun, event: Mapping[str, Any]) -> None:
        """A run said how it gets on (see `simulations.sweeps.run_process`)."""

    def run_ended(self, run: PlannedRun, end: RunEnd) -> None:
        """A run's process has ended."""


class RunPool:
    """Starts the processes and stops them all where it is interrupted."""

    def __init__(
        self,
        folder: RunsFolder,
        watcher: SweepWatcher,
        *,
        jobs: int = 1,
        command: Sequence[str] = RUN_COMMAND,
        options: Sequence[str] = (),
    ) -> None:
        """Make a pool.

        Args:
            folder: of the runs.
            watcher: hears of progress.
            jobs: processes at a time; they share this machine's threads.
            command: what runs a run; its folder is the last argument.
            options: further arguments of every run.
        """
        self._folder = folder
        self._watcher = watcher
        self._jobs = jobs
        self._command = (*command, *options)
        self._processes: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()
        self._stopped = False

    def run(self, runs: Sequence[PlannedRun]) -> dict[str, RunEnd]:
        """Run `runs` and return how each ended, by its path.

        Raises:
            KeyboardInterrupt: the sweep was interrupted; no process of it is left.
        """
        ends: dict[str, RunEnd] = {}
        with ThreadPoolExecutor(max_workers=self._jobs) as threads:
            pending: dict[Future[RunEnd], PlannedRun] = {
                threads.submit(self._run, run): run for run in runs
            }
            try:
                while pending:
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        ends[pending.pop(future).path] = future.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise
        return ends

    def _run(self, run: PlannedRun) -> RunEnd:
        self._folder.clear(run)
        path = self._folder.run_path(run)
        RunFolder.create(path).write_config(self._shared(run.config))
        log = path / LOG_FILE
        with file_errors("write", log), log.open("wb") as errors:
            process = self._start(path, errors.fileno())
            if process is None:
                return RunEnd(EXIT_INTERRUPTED, "it was stopped before it began")
            self._watcher.run_began(run)
            with process:
                fault = self._listen(run, process)
        with self._guard:
            self._processes.discard(process)
        end = RunEnd(process.returncode, _fault_line(process.returncode, fault, log))
        self._watcher.run_ended(run, end)
        return end

    def _start(self, path: Path, log: int) -> subprocess.Popen[str] | None:
        """Start a run's process, away from the terminal: Ctrl-C reaches it through this pool."""
        with self._guard:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [*self._command, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment(),
                start_new_session=True,
            )
            self._processes.add(process)
            return process

    def _listen(self, run: PlannedRun, process: subprocess.Popen[str]) -> str:
        """Pass on what the run tells until it ends; return its fault, if it told one."""
        fault = ""
        for line in process.stdout or ():
            event = _event(line)
            fault = str(event.get("fault", fault))
            self._watcher.run_told(run, event)
        process.wait()
        return fault

    def _shared(self, config: RunConfig) -> RunConfig:
        if self._jobs == 1:
            return config
        engine = config.engine.model_copy(update={"threads": self._threads(config.engine.threads)})
        return config.model_copy(update={"engine": engine})

    def _threads(self, asked: int) -> int:
        return max(1, (asked or usable_cores()) // self._jobs)

    def _environment(self) -> dict[str, str]:
        if self._jobs == 1:
            return dict(os.environ)
        return {"OMP_NUM_THREADS": str(self._threads(0)), **os.environ}

    def _stop(self) -> None:
        """Interrupt every process that is under way, and end those that stay."""
        with self._guard:
            self._stopped = True
            processes = list(self._processes)
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
                continue
            process.kill()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"message": line.strip()}


def _fault_line(code: int, told: str, log: Path) -> str:
    if code == 0:
        return ""
    if told:
        return " ".join(told.split())
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}; see {log}, and give it more memory or fewer jobs"
    if code == EXIT_INTERRUPTED:
        return "it was interrupted; run the rest with --resume"
    return f"it ended with a fault of fedrec's own (exit code {code}); its traceback is in {log}"

"""What systemd does with the units: starts again what ended, and ends what it left behind."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

UNIT = "FEDREC_CHAOS_UNIT"
CAMPAIGNS = secrets.token_hex(8)
"""Of this process: others may run campaigns at the same time, with units of the same names."""
POLL_S = 0.1
STOP_S = 15.0


@dataclass
class Unit:
    """A service.

    Attributes:
        name: it is in the environment of all its processes, as a control group holds them.
        command: its main process.
        environment: of it.
        restart_s: seconds until it is started again.
        log: takes what it prints.
        exits: exit codes of its main processes so far.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    restart_s: float
    log: Path

    def __post_init__(self) -> None:
        self.exits: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.due = 0.0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**self.environment, **unit_mark(self.name)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def restart_seconds(unit_file: Path) -> float:
    """``RestartSec`` of a unit that is always restarted."""
    lines = dict(
        line.split("=", 1) for line in unit_file.read_text().splitlines() if "Restart" in line
    )
    assert lines["Restart"] == "always", lines
    return float(lines["RestartSec"])


def unit_mark(name: str) -> dict[str, str]:
    """What the environment of a unit's processes holds."""
    return {UNIT: f"{CAMPAIGNS}:{name}"}


def processes_of(name: str, part: str = "") -> list[psutil.Process]:
    """The live processes of the unit `name`, those with `part` in their command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_of_unit = unit_mark(name).items() <= process.environ().items()
            if not is_of_unit or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if part in " ".join(process.cmdline()):
                found.append(process)
    return found


class Supervisor:
    """Keeps units running until it is closed; a thread of its own."""

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def add(self, unit: Unit) -> Unit:
        """Starts a unit, and keeps it up."""
        with self._lock:
            unit.start()
            self.units[unit.name] = unit
        return unit

    def close(self) -> None:
        """Ends all units, main processes first, then what is left of them."""
        self._ended.set()
        self._thread.join(timeout=60)
        for unit in self.units.values():
            _end_group(unit)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Sends a signal to the main process; its id, or 0 where there is none."""
        with self._lock:
            process = self.units[name].process
            if process is None or process.poll() is not None:
                return 0
            process.send_signal(number)
            return process.pid

    def all_up(self) -> bool:
        """Whether every unit has a main process."""
        with self._lock:
            return all(u.process and u.process.poll() is None for u in self.units.values())

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            with self._lock:
                units = list(self.units.values())
            for unit in units:
                self._look_after(unit)

    def _look_after(self, unit: Unit) -> None:
        with self._lock:
            process = unit.process
            if process is None:
                if time.monotonic() >= unit.due:
                    unit.start()
                return
            code = process.poll()
            if code is None:
                return
        _end_group(unit)
        with self._lock:
            unit.exits.append(code)
            unit.process, unit.due = None, time.monotonic() + unit.restart_s


def _end_group(unit: Unit) -> None:
    """SIGTERM to every process of the unit, SIGKILL to those that stay."""
    if unit.process is not None and unit.process.poll() is None:
        with suppress(ProcessLookupError):
            os.kill(unit.process.pid, signal.SIGCONT)
    group = processes_of(unit.name)
    for process in group:
        with suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(group, timeout=STOP_S)[1]:
        with suppress(psutil.Error):
            process.kill()
    if unit.process is not None:
        unit.process.wait(timeout=STOP_S)

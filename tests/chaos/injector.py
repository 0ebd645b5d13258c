"""Does what the plan says, when the run has come that far, and notes what was really hit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

import psutil

from tests.chaos.faults import Fault
from tests.chaos.progress import ProgressReader
from tests.chaos.proxy import WELL, Link, LinkState
from tests.chaos.supervisor import Supervisor, processes_of

POLL_S = 0.1
LOOK_S = 45.0
"""Seconds to wait for a process that is to be hit, such as the ClientApp of one message."""


@dataclass
class Hit:
    """A fault as it was."""

    fault: Fault
    at_s: float
    where: str
    what: str
    is_real: bool

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "fault": {**asdict(self.fault), "what": self.fault.what}}


class Injector:
    """Goes through the plan in a thread; `close` ends it and heals what is still ill."""

    def __init__(
        self,
        plan: tuple[Fault, ...],
        supervisor: Supervisor,
        links: Mapping[str, Link],
        progress: ProgressReader,
    ) -> None:
        self.hits: list[Hit] = []
        self._plan, self._supervisor, self._links = plan, supervisor, links
        self._progress, self._started = progress, time.monotonic()
        self._ended = threading.Event()
        self._healers: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=60)
        for healer in self._healers:
            healer.join(timeout=60)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is ill now."""
        return not any(healer.is_alive() for healer in self._healers)

    def _go(self) -> None:
        for fault in self._plan:
            while self._progress.value() < fault.point:
                if self._ended.wait(POLL_S):
                    return
            if self._ended.wait(fault.delay_s):
                return
            where, at = self._progress.describe(), time.monotonic() - self._started
            what = self._inject(fault)
            self.hits.append(Hit(fault, round(at, 1), where, what or "nothing there", bool(what)))
            print(f"  {at:6.1f} s  {fault.what}: {where}; {what or 'nothing there'}", flush=True)

    def _inject(self, fault: Fault) -> str:
        """What was hit; empty: nothing was."""
        kind, _, whom = fault.sort.partition(" ")
        if fault.sort in ("cut", "silent", "slow"):
            link = self._links[fault.site]
            before = link.carried
            link.set(_state(fault))
            self._heal_later(fault, lambda: link.set(WELL))
            return f"after {before // 1000} kB"
        name = f"{whom}-{fault.site}" if fault.site else whom
        if whom in ("serverapp", "clientapp"):
            return self._kill_app(whom, fault.site)
        number = signal.SIGKILL if kind == "kill" else signal.SIGSTOP
        below = self._apps_below(name)
        pid = self._main(name, number)
        if kind == "pause" and pid:
            self._heal_later(fault, lambda: _continue(pid))
        return f"process {pid}{below}" if pid else ""

    def _main(self, name: str, number: signal.Signals) -> int:
        """Hits a unit's main process; one that is down is waited for."""
        end = time.monotonic() + LOOK_S
        while not (pid := self._supervisor.signal(name, number)):
            if time.monotonic() > end or self._ended.wait(POLL_S):
                return 0
        return pid

    def _kill_app(self, whom: str, site: str) -> str:
        unit = f"supernode-{site}" if site else "superlink"
        end = time.monotonic() + LOOK_S
        while time.monotonic() < end and not self._ended.wait(POLL_S):
            for process in processes_of(unit, f"flwr-{whom}"):
                with suppress(psutil.Error):
                    age = time.time() - process.create_time()
                    process.kill()
                    return f"process {process.pid}, {age:.1f} s old"
        return ""

    @staticmethod
    def _apps_below(name: str) -> str:
        apps = processes_of(name, "flwr-serverapp") + processes_of(name, "flwr-clientapp")
        return ", with an app below it" if apps else ""

    def _heal_later(self, fault: Fault, heal: Callable[[], None]) -> None:
        def wait() -> None:
            self._ended.wait(fault.lasts_s)
            heal()

        healer = threading.Thread(target=wait, daemon=True)
        healer.start()
        self._healers.append(healer)


def _state(fault: Fault) -> LinkState:
    return LinkState(
        is_cut=fault.sort == "cut",
        is_silent=fault.sort == "silent",
        bytes_s=fault.bytes_s,
        latency_s=fault.latency_s,
    )


def _continue(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)

"""A real `fedrec-site serve` in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from client.serving.rpc import bearer

START_S = 300.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """A `fedrec-site serve` in a process of its own.

    `starts` has how long each start took, in seconds.
    """

    site: Path
    port: int
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)
    _started: float = 0.0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.site.parent / "serve.log"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return bearer((self.site / "serving" / "token").read_text().strip())

    def start(self) -> None:
        self._started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "client.cli", "serve", "--site", str(self.site)),
                    *("--listen", self.address, *self.options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        end = time.monotonic() + START_S
        while "serving site" not in self.log.read_text():
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(self.log.read_text())
            if time.monotonic() > end:
                raise TimeoutError(f"no service after {START_S:.0f} s; see {self.log}")
            time.sleep(0.05)
        self.starts.append(time.monotonic() - self._started)

    def end(self, number: signal.Signals) -> int:
        if self.process is None:
            raise RuntimeError("not started")
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def running(site: Path, *options: str) -> Iterator[Service]:
    service = Service(site, free_port(), options)
    service.start()
    try:
        service.wait_until_ready()
        yield service
    finally:
        if service.process is not None and service.process.poll() is None:
            service.end(signal.SIGKILL)

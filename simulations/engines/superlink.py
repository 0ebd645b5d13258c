"""One SuperLink of our own per simulated run: private home, free port, nothing left behind."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from common.errors import FederationError
from common.process_environment import QUIET_ENVIRONMENT, installed_script
from simulations.engines.processes import KILL_S, MARK, end_marked_processes

CONNECTION = "fedrec"
START_S = 60.0
ATTEMPTS = 3


@dataclass(frozen=True)
class SuperLink:
    """A running SuperLink.

    Attributes:
        home: its FLWR_HOME, which also holds the staged app and the log.
        environment: environment of every process that talks to it.
        log: what it and everything below it print.
        started: the commands that `start` started.
    """

    home: Path
    environment: dict[str, str]
    log: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def kept_log(self) -> Path:
        """A copy of the log that outlives the run, for a failure that we cannot explain."""
        handle, path = tempfile.mkstemp(prefix="fedrec-flower-", suffix=".log")
        os.close(handle)
        return Path(shutil.copyfile(self.log, path))

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Starts one of Flower's commands; what it prints goes to the log."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [script(command[0]), *command[1:]],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours: we end the run in order
            )
        self.started.append(process)
        return process


@contextmanager
def own_superlink(extra: Mapping[str, str], *, is_simulation: bool = True) -> Iterator[SuperLink]:
    """Starts a SuperLink and ends it, with all that it started, whatever happens.

    Args:
        extra: further environment of its processes.
        is_simulation: whether it makes its own nodes; if not, SuperNodes connect to it.

    Raises:
        FederationError: It does not start, or something outlives it.
    """
    mark = secrets.token_hex(16)
    home = Path(tempfile.mkdtemp(prefix="fedrec-"))
    superlink = SuperLink(home, _environment(home, mark, extra), home / "superlink.log")
    try:
        _wait_until_started(superlink, is_simulation)
        yield superlink
    finally:
        left = end_marked_processes(mark)
        for process in superlink.started:
            # Takes its exit status, so that no zombie stays; its threads may end after it.
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=KILL_S)
        shutil.rmtree(home, ignore_errors=True)
        if left:
            raise FederationError(
                f"processes {left} of Flower's simulation could not be ended; end them by hand"
            )


def script(name: str) -> str:
    """A console script of this Python's environment."""
    found = installed_script(name)
    if found is None:
        raise FederationError(
            f"the command {name} is not installed beside {sys.executable}; "
            "install flwr[simulation] there"
        )
    return found


def _environment(home: Path, mark: str, extra: Mapping[str, str]) -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    return {
        **os.environ,
        **QUIET_ENVIRONMENT,
        "HF_HUB_OFFLINE": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "RAY_TMPDIR": str(home),
        **extra,
        "PATH": path,
        "FLWR_HOME": str(home),
        MARK: mark,
    }


def _wait_until_started(superlink: SuperLink, is_simulation: bool) -> None:
    """Starts on a free port; another process may take it first, so it tries again."""
    for _ in range(ATTEMPTS):
        port = _free_port()
        connection = {"address": f"127.0.0.1:{port}", "insecure": True}
        config = {"superlink": {"default": CONNECTION, CONNECTION: connection}}
        (superlink.home / "config.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
        command = ["flower-superlink", "--insecure", "--isolation", "subprocess"]
        command += ["--simulation"] if is_simulation else []
        command += ["--host", "127.0.0.1", "--port", str(port)]
        command += ["--disable-runtime-dependency-installation"]
        if _answers(superlink.start(command), port):
            return
    raise FederationError(
        f"Flower's SuperLink does not start on this machine; its log is {superlink.kept_log()}"
    )


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.client.OK:
                return True
        except (OSError, http.client.HTTPException):  # not listening yet
            time.sleep(0.1)
        finally:
            connection.close()
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

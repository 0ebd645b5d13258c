"""What the coordinator does: `flwr run`, and `fedrec-server resume` until the run has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from server.deployment_files import gate_command, run_command
from server.server_folder import ServerFolder
from tests.chaos.progress import is_finished
from tests.chaos.supervisor import processes_of, unit_mark

POLL_S = 0.3
GONE_S = 15.0
"""Seconds without a ServerApp after which the coordinator gives up watching the log."""
FIRST_S = 120.0
NAME = "coordinator"


@dataclass
class Ending:
    """How a run ended.

    Attributes:
        how: ``finished``, ``refused`` (in one line) or ``stuck``.
        reason: of a refusal.
        resumes: number of `fedrec-server resume`.
        starts: number of `flwr run`: more than one where nothing had been asked of a site.
        said: what each command printed on stderr, and its exit code.
    """

    how: str
    reason: str = ""
    resumes: int = 0
    starts: int = 0
    said: list[tuple[int, str]] = field(default_factory=list)


class Coordinator:
    """Drives one run to its end."""

    def __init__(
        self, server: ServerFolder, rounds: int, environment: dict[str, str], log: Path
    ) -> None:
        self._server, self._rounds, self._log = server, rounds, log
        self._environment = {**environment, **unit_mark(NAME)}

    def drive(
        self, folder: Callable[[], Path | None], is_well: Callable[[], bool], limit_s: float
    ) -> Ending:
        """Runs, and resumes while that helps.

        Args:
            folder: of the run, once there is one.
            is_well: whether all services are up and no fault lasts.
            limit_s: seconds after which the run counts as stuck.
        """
        ending, end = Ending("stuck"), time.monotonic() + limit_s
        futile = 0
        while time.monotonic() < end:
            before, was_well = _seen(folder()), is_well()
            self._command(self._next(folder(), ending), ending, end)
            if is_finished(folder(), self._rounds):
                ending.how = "finished"
                return ending
            is_futile = was_well and is_well() and _seen(folder()) == before
            futile = futile + 1 if is_futile else 0
            if futile == 2:
                ending.how = "refused"
                ending.reason = _refusal(self._log)
                return ending
            while not is_well() and time.monotonic() < end:
                time.sleep(POLL_S)
        return ending

    def _next(self, folder: Path | None, ending: Ending) -> list[str]:
        if folder is None or not (folder / "checkpoint" / "checkpoint.safetensors").exists():
            ending.starts += 1
            return run_command(self._server)
        ending.resumes += 1
        fedrec_server = gate_command(self._server)[:-2]
        return [*fedrec_server, "resume", str(folder), "--folder", str(self._server.path)]

    def _command(self, command: list[str], ending: Ending, end: float) -> None:
        faults = self._log.with_name(self._log.name + ".stderr")
        before = _server_apps()  # one that is just ending says nothing of this command
        with self._log.open("ab") as log, faults.open("wb") as stderr:
            log.write(f"\n--- {' '.join(command[:3])}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command,
                env={**self._environment, "FLWR_HOME": str(self._server.flower_home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=stderr,
                start_new_session=True,
            )
        self._watch(process, end, before)
        said = faults.read_text(errors="replace")
        with self._log.open("a") as log_text:
            log_text.write(said)
        ending.said.append((process.returncode, said))
        print(f"  coordinator: {' '.join(command[:2])[-40:]} ended with {process.returncode}")

    def _watch(self, process: subprocess.Popen[bytes], end: float, before: frozenset[int]) -> None:
        """Waits for the command; ends it when its ServerApp is there no more."""
        seen, patience = time.monotonic(), FIRST_S
        while process.poll() is None:
            if _server_apps() - before:
                seen, patience = time.monotonic(), GONE_S
            if time.monotonic() - seen > patience or time.monotonic() > end:
                print("  coordinator: no ServerApp any more; stops watching the log", flush=True)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return
            time.sleep(POLL_S)


def _server_apps() -> frozenset[int]:
    return frozenset(process.pid for process in processes_of("superlink", "flwr-serverapp"))


def _seen(folder: Path | None) -> tuple[object, ...]:
    """What a futile resume leaves as it was."""
    if folder is None:
        return ()
    names = ("checkpoint/checkpoint.safetensors", "rounds.jsonl", "releases.jsonl")
    contents = [(folder / name).read_bytes() if (folder / name).exists() else b"" for name in names]
    stages = sorted(str(path) for path in (folder / "checkpoint").glob("sums/*/*"))
    return (folder, *contents, *stages)


def _refusal(log: Path) -> str:
    """The last error that the run's log shows."""
    lines = [line.strip() for line in log.read_text().splitlines()]
    errors = [line for line in lines if "Error" in line or line.startswith("error")]
    return errors[-1][:400] if errors else ""

"""A server that is killed at a chosen point: between two writes, or between two messages.

From that point on it writes and sends nothing any more, whatever its code still does on the
way out: that is what SIGKILL leaves. Its sites live on. (Every write is whole or not there:
`tests/common/test_atomic_files.py`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

import common.run_folder
import server.sum_transcript
from common.adapters import Adapter
from common.config import RunConfig
from common.progress import SilentListener
from common.run_folder import RunFolder
from server.round_loop import run_rounds
from server.run_lock import only_server
from server.run_records import RunRecords
from server.strategy import FederatedAdapters

WRITERS = (
    (common.run_folder, "write_bytes"),
    (common.run_folder, "write_text"),
    (common.run_folder, "write_json"),
    (common.run_folder, "append_json_lines"),
    (common.run_folder, "replace_json_lines"),
    (server.sum_transcript, "write_bytes"),
)


class Killed(BaseException):
    """What the server's code sees of its end; no `except Exception` may stop it."""


class KillPoints:
    """Counts the points that a server passes, and kills it at one.

    Attributes:
        passed: what each point was.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.passed: list[str] = []
        self._kill_at: int | None = None
        self._is_dead = False
        for module, name in WRITERS:
            patch.setattr(module, name, self._around(name, getattr(module, name)))

    def start(self, kill_at: int | None) -> None:
        """A new server, which dies at point `kill_at`; None: it lives."""
        self.passed, self._kill_at, self._is_dead = [], kill_at, False

    def reach(self, what: str) -> None:
        if self._is_dead or len(self.passed) == self._kill_at:
            self._is_dead = True
            raise Killed(what)
        self.passed.append(what)

    def _around(self, name: str, write: Any) -> Any:
        def observed(path: Path, *arguments: Any, **named: Any) -> None:
            self.reach(f"before {name} {path.name}")
            write(path, *arguments, **named)
            self.reach(f"after {name} {path.name}")

        return observed


class KilledRun:
    """One run whose server is killed and started again in the same folder."""

    def __init__(
        self, config: RunConfig, path: Path, points: KillPoints, start: Adapter, name: str = "run"
    ) -> None:
        self.config, self.path, self.points, self.name = config, path, points, name
        self._start = start

    def serve(self, grid: Any, kill_at: int | None = None) -> FederatedAdapters:
        """One server's life: of a new run, or of the one in the folder."""
        self.points.start(kill_at)
        strategy = FederatedAdapters(self.config, self.name, self._start, SilentListener())
        with only_server(self.path):
            if RunFolder(self.path).checkpoint_file.is_file():
                records = RunRecords.resume(self.path, self.config)
            else:
                records = RunRecords.start(self.path, self.config, self.name)
            run_rounds(Watched(grid, self.points), strategy, records, SilentListener())
        return strategy

    def records(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rounds and releases as on record, less what differs from run to run by nature."""
        folder = RunFolder.open(self.path)
        rounds = folder.read_rounds()
        for line in rounds:
            del line["started_at"], line["seconds"]
            for site in line["sites"]:
                del site["bytes_up"]  # a checkpoint's text is a few bytes longer or shorter
        releases = folder.read_releases()
        for line in releases:
            del line["ledger_checkpoint"], line["payload_sha256"]
        return rounds, releases


class Watched:
    """A grid whose messages are points, too."""

    def __init__(self, grid: Any, points: KillPoints) -> None:
        self._grid, self._points = grid, points

    def get_node_ids(self) -> Any:
        return self._grid.get_node_ids()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        for message in messages:
            self._points.reach(f"before {message.metadata.message_type}")
            for reply in self._grid.send_and_receive([message], timeout=timeout):
                self._points.reach(f"after {message.metadata.message_type}")
                yield reply

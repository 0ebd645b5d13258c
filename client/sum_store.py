"""What a site keeps of its open rounds of secure aggregation, over restarts.

Flower may start a process for every message, and a resident agent may be restarted in the
middle of a round: keys and shares of the open round therefore lie in one file that only the
site's own user can read, and are overwritten when the round ends (which erases nothing on
media that keep old blocks; whoever can read them there can read the site's data, too).

The file starts with the SHA-256 of the rest: what a fault of the disk left of it is never
taken for the site's state. A lock makes the site answer one message at a time: two processes
that answered from one state could be led to give both kinds of share of one site.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.atomic_files import file_errors, write_bytes
from common.errors import LedgerError

_FOLDER = "secagg"
_FILE = "rounds.json"
_LOCK = "lock"
_OWN_MODE = 0o600
_RUNS_KEPT = 1000


@dataclass
class OpenRound:
    """A site's part in one round.

    Attributes:
        server_round: the round.
        participants: the invited sites.
        part: what `SecAggSite.saved` returned.
        answered: by stage, the SHA-256 of the request that was answered and the answer; a
            retry gets the same bytes, and what was asked before is never asked for anew.
        delivery: the SHA-256 of the one request that the site has begun to mask its input for.
    """

    server_round: int
    participants: tuple[str, ...]
    part: dict[str, Any]
    answered: dict[str, tuple[str, str]] = field(default_factory=dict)
    delivery: str = ""


class SumStore:
    """The file; one per site."""

    def __init__(self, site_folder: Path) -> None:
        """`site_folder` is the site's own folder."""
        self._path = site_folder / _FOLDER / _FILE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the store for this thread and process; others wait."""
        folder = self._path.parent
        with file_errors("make", folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, _OWN_MODE)
        try:
            with file_errors("lock", folder / _LOCK):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def last_rounds(self) -> dict[bytes, int]:
        """The last round of each run that the site entered."""
        return {bytes.fromhex(run): last for run, last in self._read()["last_rounds"].items()}

    def open_round(self, run: bytes, server_round: int) -> OpenRound | None:
        """The site's part in a round, if it entered it and entered none after it."""
        found = self._read()["open"].get(run.hex())
        if found is None or found["server_round"] != server_round:
            return None
        answered = {stage: (sha256, reply) for stage, (sha256, reply) in found["answered"].items()}
        names = tuple(found["participants"])
        return OpenRound(server_round, names, found["part"], answered, found["delivery"])

    def keep(self, run: bytes, part: OpenRound) -> None:
        """Writes down the site's part; rounds of the same run before it are forgotten.

        Raises:
            RunFolderError: the file system refuses; nothing has changed then.
        """
        state = self._read()
        for kept in ("last_rounds", "open"):  # the newest run last
            state[kept].pop(run.hex(), None)
        state["last_rounds"][run.hex()] = part.server_round
        state["open"][run.hex()] = vars(part)
        self._write({name: _newest(state[name]) for name in ("last_rounds", "open")})

    def close(self, run: bytes, server_round: int) -> None:
        """Forgets the site's part in a round, its secrets with it; never that it was entered."""
        state = self._read()
        if state["open"].get(run.hex(), {}).get("server_round") == server_round:
            del state["open"][run.hex()]
            self._write(state)

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {"last_rounds": {}, "open": {}}
        with file_errors("read", self._path):
            mode, content = self._path.stat().st_mode, self._path.read_bytes()
        if mode & 0o077:
            raise LedgerError(f"{self._path} may be read by others; chmod 600 {self._path}")
        digest, _, text = content.partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != digest:
            raise LedgerError(
                f"{self._path} is damaged; restore it, or remove it while no run is going on"
            )
        state: dict[str, Any] = json.loads(text)
        return state

    def _write(self, state: Mapping[str, Any]) -> None:
        with file_errors("clear", self._path.parent):
            for left in self._path.parent.glob(f".{_FILE}.*.tmp"):  # of a process that was killed
                left.unlink()
        text = json.dumps(state).encode()
        digest = hashlib.sha256(text).hexdigest().encode()
        write_bytes(self._path, digest + b"\n" + text, mode=_OWN_MODE)


def _newest(entries: dict[str, Any]) -> dict[str, Any]:
    return dict(list(entries.items())[-_RUNS_KEPT:])

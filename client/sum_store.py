"""What a site keeps of its open rounds of secure aggregation, over restarts.

Flower may start a process for every message, and a resident agent may be restarted in the
middle of a round: keys and shares of the open round therefore lie in one file that only the
site's own user can read, and are overwritten when the round ends (which erases nothing on
media that keep old blocks; whoever can read them there can read the site's data, too).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.atomic_files import file_errors, write_bytes
from common.errors import LedgerError

_FOLDER = "secagg"
_FILE = "rounds.json"
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
    """

    server_round: int
    participants: tuple[str, ...]
    part: dict[str, Any]
    answered: dict[str, tuple[str, str]] = field(default_factory=dict)


class SumStore:
    """The file; one per site."""

    def __init__(self, site_folder: Path) -> None:
        """`site_folder` is the site's own folder."""
        self._path = site_folder / _FOLDER / _FILE

    def last_rounds(self) -> dict[bytes, int]:
        """The last round of each run that the site entered."""
        return {bytes.fromhex(run): last for run, last in self._read()["last_rounds"].items()}

    def open_round(self, run: bytes, server_round: int) -> OpenRound | None:
        """The site's part in a round, if it entered it and entered none after it."""
        found = self._read()["open"].get(run.hex())
        if found is None or found["server_round"] != server_round:
            return None
        answered = {stage: (sha256, reply) for stage, (sha256, reply) in found["answered"].items()}
        return OpenRound(server_round, tuple(found["participants"]), found["part"], answered)

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

    def close(self, run: bytes) -> None:
        """Forgets the open round of a run, its secrets with it; never that it was entered."""
        state = self._read()
        if state["open"].pop(run.hex(), None) is not None:
            self._write(state)

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {"last_rounds": {}, "open": {}}
        with file_errors("read", self._path):
            content = self._path.read_bytes()
        try:
            state = json.loads(content)
            return {"last_rounds": dict(state["last_rounds"]), "open": dict(state["open"])}
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(
                f"{self._path} is damaged; restore it, or remove it while no run is going on"
            ) from error

    def _write(self, state: Mapping[str, Any]) -> None:
        with file_errors("make", self._path.parent):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
        write_bytes(self._path, json.dumps(state).encode())


def _newest(entries: dict[str, Any]) -> dict[str, Any]:
    return dict(list(entries.items())[-_RUNS_KEPT:])

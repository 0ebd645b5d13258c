"""How far a run has come, read from outside: its folder's files and the sites' ledgers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

STAGES = ("invited", "advertise", "share_keys", "mask_input", "sign_survivors", "unmask", "noised")
MOST = 0.99


class ProgressReader:
    """Looks at the newest run of a server."""

    def __init__(self, runs: Path, sites: Sequence[Path], mode: str) -> None:
        self._runs, self._sites, self._mode = runs, sites, mode

    def run_folder(self) -> Path | None:
        """The run's folder, once there is one; the newest where one was begun again."""
        made = [path for path in self._runs.iterdir() if path.is_dir()]
        return max(made, key=lambda path: path.name, default=None)

    def lines(self) -> int:
        """Rounds on record."""
        folder = self.run_folder()
        path = None if folder is None else folder / "rounds.jsonl"
        return path.read_bytes().count(b"\n") if path is not None and path.exists() else 0

    def value(self) -> float:
        """Finished rounds, and the part of the open one that is done."""
        return self.lines() + min(self._open_part(), MOST)

    def describe(self) -> str:
        """Where the run is, for the table."""
        lines, stages = self.lines(), self._stages()
        where = "popularity" if lines == 0 else f"round {lines}"
        if self.run_folder() is None:
            return "before the run's folder"
        if self._mode == "distributed":
            return f"{where}, after {stages[-1]}" if stages else f"{where}, before its sum"
        return f"{where}, {self._charged(lines)} of {len(self._sites)} sites have released"

    def _open_part(self) -> float:
        if self._mode == "distributed":
            return len(self._stages()) / 6
        return self._charged(self.lines()) / (len(self._sites) + 1)

    def _stages(self) -> list[str]:
        """Finished stages of the sum that is open."""
        folder = self.run_folder()
        found: list[str] = []
        if folder is not None:
            with suppress(OSError):  # it may go while we look
                for sum_folder in sorted((folder / "checkpoint" / "sums").iterdir()):
                    if int(sum_folder.name) >= self.lines():
                        found = [s for s in STAGES if (sum_folder / s).exists()]
        return found

    def _charged(self, server_round: int) -> int:
        """Sites whose ledger has an entry of this round."""
        return sum(bool(_entries(site, server_round)) for site in self._sites)


def _entries(site: Path, server_round: int) -> int:
    path = site / "ledger.sqlite"
    if not path.exists():
        return 0
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        query = "SELECT count(*) FROM releases WHERE server_round = ? AND event_json IS NOT NULL"
        return int(db.execute(query, (server_round,)).fetchone()[0])
    return 0


def is_finished(folder: Path | None, rounds: int) -> bool:
    """Whether the last round is on record, and did not end the run for want of sites."""
    path = None if folder is None else folder / "rounds.jsonl"
    if path is None or not path.exists():
        return False
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1].splitlines()
    last = json.loads(whole[-1]) if whole else {"server_round": -1}
    return bool(last["server_round"] == rounds and last["adapter_sha256"] is not None)

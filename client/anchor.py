"""The second place that a ledger's checkpoints go to: a log of signed lines, one per release.

It lies apart from the database, so that a database that was set back is behind it. It is
written after the ledger's transaction and may therefore be behind the database, which is
no fault and is made good; it can never be ahead of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from client.durability import Durability
from common.atomic_files import append_json_lines, file_errors
from common.errors import LedgerError
from common.ledger_checkpoint import Checkpoint, parse_checkpoint

_TAIL_BYTES = 65536


class Anchor:
    """The anchor file of one ledger."""

    def __init__(self, path: Path, durability: Durability = Durability.MACHINE) -> None:
        """Names the file; it is made by the first `append`."""
        self.path = path
        self._durability = durability

    def last(self) -> Checkpoint | None:
        """The newest checkpoint, or None where there is none.

        Raises:
            LedgerError: the last whole line is no checkpoint.
        """
        if not self.path.exists():
            return None
        with file_errors("read", self.path), self.path.open("rb") as file:
            start, lines = file.seek(0, 2), list[bytes]()
            while start > 0 and len(lines) < 3:  # a part, a whole line, what follows its end
                start = max(0, start - _TAIL_BYTES)
                file.seek(start)
                lines = file.read().split(b"\n")
        whole = lines[:-1] if start == 0 else lines[1:-1]
        return self._parsed(whole[-1]) if whole else None

    def read(self) -> list[Checkpoint]:
        """Every checkpoint, in the order of writing.

        Raises:
            LedgerError: a whole line is no checkpoint.
        """
        if not self.path.exists():
            return []
        with file_errors("read", self.path):
            lines = self.path.read_bytes().split(b"\n")[:-1]
        return [self._parsed(line) for line in lines]

    def append(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Adds `checkpoints`, durably, all or none.

        Raises:
            RunFolderError: the file system refuses.
        """
        with file_errors("make", self.path.parent):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = [each.model_dump(mode="json") for each in checkpoints]
        append_json_lines(self.path, lines, flushed=self._durability.is_flushed)

    def _parsed(self, line: bytes) -> Checkpoint:
        found = parse_checkpoint(line)
        if found is None:
            raise LedgerError(
                f"anchor {self.path} is damaged: a line is no checkpoint; restore or remove the "
                "file, then run fedrec-site ledger recover"
            )
        return found

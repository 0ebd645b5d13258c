"""``releases.jsonl`` of a run that may be resumed: a line a release, however often heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from common.release_record import ReleaseRecord
from common.run_folder import RunFolder

Key = tuple[str, str, int, str, tuple[str, ...], str]


class ReleaseLog:
    """Appends releases; a resumed round is answered again, with what is on record already."""

    def __init__(self, folder: RunFolder) -> None:
        """Reads what is there."""
        self._folder = folder
        self._on_record = Counter(_key(line) for line in folder.read_releases())

    def append(self, releases: Sequence[ReleaseRecord]) -> None:
        """Appends the releases that were not there when the server started, each once for each.

        Raises:
            RunFolderError: the file system refuses; nothing was appended.
        """
        known = self._on_record.copy()
        fresh = []
        for release in releases:
            line = release.model_dump(mode="json")
            if known[_key(line)]:
                known[_key(line)] -= 1
            else:
                fresh.append(line)
        if fresh:
            self._folder.append_releases(fresh)
        self._on_record = known


def _key(line: Mapping[str, Any]) -> Key:
    """Of a release; the names of its tensors tell the stage of released metrics."""
    return (
        str(line["site"]),
        str(line["run"]),
        int(line["server_round"]),
        str(line["kind"]),
        tuple(line["tensors"]),
        str(line["payload_sha256"]),
    )

"""How much memory a tree of processes held, from Linux's /proc."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_FIELDS = {"VmHWM": "peak", "RssAnon": "own", "RssFile": "files", "RssShmem": "shared"}


@dataclass
class TreeMemory:
    """Peaks in bytes.

    Attributes:
        peak: most that was held at one time, as polled: every process's own pages, and the
            largest set of mapped files and of shared pages once (the processes map the same).
        own_peaks: of each process, the most that it ever held but for files and shared pages.
        files: the largest set of mapped files and shared pages.
    """

    peak: int = 0
    own_peaks: dict[int, int] = field(default_factory=dict)
    files: int = 0

    @property
    def bound(self) -> int:
        """What was held at one time, at most: all processes at their own peaks together."""
        return sum(self.own_peaks.values()) + self.files

    def see(self, processes: Iterable[int]) -> None:
        """Takes note of what `processes` hold now."""
        held = {pid: status for pid in processes if (status := memory_of(pid))}
        common = max((s["files"] + s["shared"] for s in held.values()), default=0)
        self.files = max(self.files, common)
        self.peak = max(self.peak, sum(s["own"] for s in held.values()) + common)
        for pid, status in held.items():
            own = status["peak"] - status["files"] - status["shared"]
            self.own_peaks[pid] = max(self.own_peaks.get(pid, 0), own)


def memory_of(pid: int) -> dict[str, int]:
    """``peak``, ``own``, ``files`` and ``shared`` bytes of a process; empty once it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    lines = [line.partition(":") for line in text.split("\n")]
    found = {_FIELDS[k]: int(v.split()[0]) * 1024 for k, _, v in lines if k in _FIELDS}
    return found if len(found) == len(_FIELDS) else {}

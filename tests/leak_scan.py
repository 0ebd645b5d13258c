"""Looks for what must never be seen outside a site: planted ids, keys, and items in a row.

Files, folders and bytes are searched as they are and unpacked (`tests.leak_unpacking`), up to
`DEPTH` layers deep. A canary is looked for in several ways of writing it. Of an item history
`WINDOW` items in a row are looked for: as numbers in text, whatever stands between them, and as
arrays of the usual number types at any offset; and the whole of it as ones and zeros, one for
each item.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from tests.leak_unpacking import APART, SQLITE, is_for_itself, rows_of_database, together, unpacked

WINDOW = 8
DEPTH = 4
_WORD = 8
_BLOCK = 1 << 20
_OVERLAP = 512
_NUMBER = re.compile(rb"\d{1,15}(?:\.0+)?(?![\d.])")
_DTYPES = ("<u1", "<i2", "<i4", "<i8", "<f4", "<f8", ">i4", ">i8")
_LARGEST = 1 << 40
_ITEMS = 1 << 12
_PRIME = 0x9E3779B97F4A7C15
_TABLE_BITS = 20

Uint64Array = npt.NDArray[np.uint64]
Int64Array = npt.NDArray[np.int64]


class Canary(NamedTuple):
    """Something that must not be found, in every way of writing it that is looked for."""

    name: str
    writings: tuple[bytes, ...]

    @classmethod
    def of(cls, name: str, secret: str | bytes) -> Canary:
        """The canary of a text or of bytes, which are 8 or more."""
        raw = secret.encode() if isinstance(secret, str) else secret
        wide = [secret.encode(f"utf-16-{end}") for end in ("le", "be")] if raw != secret else []
        digests = [hashlib.new(kind, raw) for kind in ("md5", "sha1", "sha256")]
        written = [
            *(raw, raw[::-1], *wide, raw.hex().encode(), raw.hex().upper().encode()),
            *_base64_writings(raw),
            *(each.digest() for each in digests),
            *(each.hexdigest().encode() for each in digests),
        ]
        return cls(name, tuple(dict.fromkeys(written)))


class Finding(NamedTuple):
    """A canary that was found, and where."""

    canary: str
    where: str


class LeakScan:
    """Looks for canaries and histories; see the module's docstring."""

    def __init__(self, canaries: Iterable[Canary], histories: Iterable[Sequence[int]] = ()) -> None:
        """Binds what is looked for.

        Args:
            canaries: planted or secret; names may repeat.
            histories: sequences of whole numbers, such as a user's items in order.
        """
        self._names = {writing: canary.name for canary in canaries for writing in canary.writings}
        histories = [list(each) for each in histories]
        for history in histories:
            self._names |= dict.fromkeys(_as_ones_and_zeros(history), "items as ones and zeros")
        self._overlap = max(map(len, self._names), default=0) + _OVERLAP
        self._by_start: dict[bytes, list[bytes]] = {}
        for writing in self._names:
            self._by_start.setdefault(writing[:_WORD], []).append(writing)
        first = [int.from_bytes(start, "little") for start in self._by_start]
        self._starts = _Known(np.array(first, np.uint64))
        self._windows = _Known(np.array([*_window_hashes(histories)], np.uint64))
        self._known: dict[bytes, frozenset[tuple[str, str]]] = {}

    def scan(self, content: Path | bytes, where: str = "") -> list[Finding]:
        """Everything that is found in a file, in all files below a folder, or in bytes."""
        if isinstance(content, bytes):
            return sorted(Finding(name, where + how) for name, how in self._found(content, DEPTH))
        if content.is_dir():
            paths = sorted(path for path in content.rglob("*") if path.is_file())
            alone = [path for path in paths if is_for_itself(path.read_bytes())]
            found = [each for path in alone for each in self._scan_file(path, content)]
            return found + self._scan_together([*set(paths) - set(alone)], content)
        return self._scan_file(content, content.parent)

    def _scan_together(self, paths: Sequence[Path], folder: Path) -> list[Finding]:
        """Many small files at once, which is quicker; where something is found, by halves."""
        if len(paths) < 2:
            return [each for path in paths for each in self._scan_file(path, folder)]
        names = (str(path.relative_to(folder)).encode() for path in paths)
        if not self.scan(APART.join([*names, *(path.read_bytes() for path in paths)])):
            return []
        middle = len(paths) // 2
        halves = (paths[:middle], paths[middle:])
        return [each for half in halves for each in self._scan_together(half, folder)]

    def _scan_file(self, path: Path, folder: Path) -> list[Finding]:
        where, data = str(path.relative_to(folder)), path.read_bytes()
        found = self.scan(str(path.relative_to(folder)).encode(), f"the name of {where}")
        found += self.scan(data, where)
        if data.startswith(SQLITE):  # with what is only in its write-ahead log yet
            for value in together(rows_of_database(path)):
                found += self.scan(value, f"{where} > a row")
        return found

    def _found(self, data: bytes, depth: int) -> frozenset[tuple[str, str]]:
        digest = hashlib.blake2b(data, salt=bytes([depth])).digest()
        if digest not in self._known:
            here = {(name, "") for name in self._bare(data)}
            if depth:
                for how, part in unpacked(data):
                    here |= {
                        (name, f" > {how}{inner}") for name, inner in self._found(part, depth - 1)
                    }
            self._known[digest] = frozenset(here)
        return self._known[digest]

    def _bare(self, data: bytes) -> Iterator[str]:
        for start in range(0, max(len(data), 1), _BLOCK):
            block = data[start : start + _BLOCK + self._overlap]
            yield from self._canaries_in(block)
            yield from self._histories_in(block)

    def _canaries_in(self, data: bytes) -> Iterator[str]:
        for at in self._starts.places(_words(data)):
            for writing in self._by_start[data[at : at + _WORD]]:
                if data.startswith(writing, at):
                    yield self._names[writing]

    def _histories_in(self, data: bytes) -> Iterator[str]:
        tokens = [int(each.partition(b".")[0]) for each in _NUMBER.findall(data)]
        if self._has_window(np.array(tokens, np.int64), 1):
            yield "items in a row, as text"
        raw = np.frombuffer(data, np.uint8)
        for kind in _DTYPES:
            size = np.dtype(kind).itemsize
            if len(raw) >= size * WINDOW:
                at_each_byte = np.ascontiguousarray(sliding_window_view(raw, size)).view(kind)
                if self._has_window(_whole(at_each_byte.ravel()), size):
                    yield f"items in a row, as {kind}"

    def _has_window(self, numbers: Int64Array, apart: int) -> bool:
        """Whether a known window is among numbers of which each `apart`-th follows another."""
        places = len(numbers) - (WINDOW - 1) * apart
        if places < 1:
            return False
        is_whole = numbers >= 0
        starts = is_whole[:places].copy()
        for step in range(apart, WINDOW * apart, apart):
            starts &= is_whole[step : step + places]
        at = np.flatnonzero(starts)
        return bool(self._windows.places(_hashes(numbers[at + n * apart] for n in range(WINDOW))))


class _Known:
    """Finds the places of known words among many, by a table of their top bits first."""

    def __init__(self, words: Uint64Array) -> None:
        self._sorted = np.unique(words)
        self._table = np.zeros(1 << _TABLE_BITS, bool)
        self._table[_slots(self._sorted)] = True

    def places(self, words: Uint64Array) -> list[int]:
        likely = np.flatnonzero(self._table[_slots(words)])
        if not len(likely):
            return []
        nearest = np.searchsorted(self._sorted[:-1], words[likely])
        return [int(at) for at in likely[self._sorted[nearest] == words[likely]]]


def _slots(words: Uint64Array) -> Uint64Array:
    return np.asarray((words * np.uint64(_PRIME)) >> np.uint64(64 - _TABLE_BITS))


def _words(data: bytes) -> Uint64Array:
    """The 8 bytes at every place of `data`."""
    places = len(data) - _WORD + 1
    words = np.empty(max(0, places), np.uint64)
    for offset in range(min(_WORD, len(words))):
        count = (len(data) - offset) // _WORD
        words[offset::_WORD] = np.frombuffer(data, "<u8", count, offset)
    return words


def _whole(numbers: npt.NDArray[Any]) -> Int64Array:
    """The numbers, and −1 where one is no whole number that an id or a time could be."""
    with np.errstate(invalid="ignore"):
        is_whole = (numbers >= 0) & (numbers < _LARGEST)
        if numbers.dtype.kind == "f":
            is_whole &= numbers == np.floor(numbers)
        return np.where(is_whole, numbers, -1).astype(np.int64)


def _hashes(columns: Iterable[Int64Array]) -> Uint64Array:
    """One word for each row of numbers, which are given column by column."""
    hashed = np.zeros(1, np.uint64)
    for column in columns:
        hashed = hashed * np.uint64(_PRIME) + column.astype(np.uint64) + np.uint64(1)
    return hashed


def _window_hashes(histories: Iterable[Sequence[int]]) -> Iterator[int]:
    """Of every window of every history: as it is, backwards, and of the items in order."""
    for history in histories:
        for sequence in (list(history), list(history)[::-1], sorted(history)):
            for start in range(len(sequence) - WINDOW + 1):
                window = sequence[start : start + WINDOW]
                if max(window) - min(window) >= 2 * WINDOW:  # 1, 2, 3 … is a count, no history
                    yield int(_hashes(np.array(window, np.int64)[:, None])[0])


def _as_ones_and_zeros(history: Sequence[int]) -> Iterator[bytes]:
    """From the first item to the last, in the usual number types; not of times."""
    least, most = min(history), max(history)
    if len(set(history)) >= WINDOW and 2 * WINDOW <= most - least < _ITEMS:
        vector = np.zeros(most - least + 1)
        vector[np.array(history) - least] = 1
        for kind in _DTYPES:
            yield vector.astype(kind).tobytes()


def _base64_writings(raw: bytes) -> Iterator[bytes]:
    """What stands in base64 of any text that has `raw` in it, wherever it begins there."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + raw)
        inner = text[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        if len(inner) >= _WORD:
            yield inner
            yield inner.translate(bytes.maketrans(b"+/", b"-_"))

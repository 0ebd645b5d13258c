"""The bytes of secure aggregation's messages: length-prefixed fields, read strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from common.errors import MessageError

T = TypeVar("T")

_LONGEST_NAME = 255
_LONGEST_LIST = 1000
_MAGIC = b"FSA1"


def header(kind: int) -> bytes:
    """Starts every message; the version is part of the magic."""
    return _MAGIC + bytes([kind])


def is_name(name: str) -> bool:
    """Whether a site may have this name."""
    try:
        return 1 <= len(name.encode()) <= _LONGEST_NAME
    except UnicodeEncodeError:
        return False


def name_bytes(name: str) -> bytes:
    """A site's name, 1 to 255 bytes of UTF-8."""
    if not is_name(name):
        raise MessageError(f"the name of a site must have 1 to {_LONGEST_NAME} bytes: {name!r:.80}")
    return bytes([len(name.encode())]) + name.encode()


def list_bytes(items: Iterable[bytes]) -> bytes:
    """Encoded items behind their number."""
    encoded = list(items)
    return len(encoded).to_bytes(4, "big") + b"".join(encoded)


def blob_bytes(data: bytes) -> bytes:
    """Bytes behind their length."""
    return len(data).to_bytes(4, "big") + data


class Reader:
    """Reads one message from its first byte to its last; every fault is a MessageError."""

    def __init__(self, data: bytes, kind: int) -> None:
        self._data, self._at = data, 0
        if self.exactly(len(_MAGIC)) != _MAGIC or self.exactly(1)[0] != kind:
            raise MessageError("not the expected message of secure aggregation")

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise MessageError("a message of secure aggregation is cut short")
        taken, self._at = self._data[self._at : end], end
        return taken

    def name(self) -> str:
        """A site's name."""
        size = self.exactly(1)[0]
        try:
            name = self.exactly(size).decode()
        except UnicodeDecodeError as error:
            raise MessageError("the name of a site is not UTF-8") from error
        if not name:
            raise MessageError("the name of a site is empty")
        return name

    def blob(self) -> bytes:
        """Bytes behind their length."""
        return self.exactly(int.from_bytes(self.exactly(4), "big"))

    def number(self) -> int:
        """One byte."""
        return self.exactly(1)[0]

    def items(self, read: Callable[[], T], name: Callable[[T], str]) -> tuple[T, ...]:
        """A list sorted by site, at most one item per site."""
        count = int.from_bytes(self.exactly(4), "big")
        if count > _LONGEST_LIST:
            raise MessageError(f"a list of {count} sites; at most {_LONGEST_LIST} are allowed")
        found = tuple(read() for _ in range(count))
        check_sorted([name(item) for item in found])
        return found

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._data):
            raise MessageError(f"{len(self._data) - self._at} bytes follow the message's end")


def check_sorted(names: Sequence[str]) -> None:
    """Refuse an order other than the canonical one, and a site named twice."""
    if any(left >= right for left, right in pairwise(names)):
        raise MessageError("sites must be sorted, and each named once")

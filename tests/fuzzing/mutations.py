"""Valid messages with something wrong in them: in their structure, and in their bytes.

Every choice is made by a `Random` of hypothesis's: one that it can shrink where a few inputs
are always the same, and a seeded one where many are wanted, of which hardly two are equal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Any

from flwr.proto.recorddict_pb2 import RecordDict as Proto
from hypothesis import strategies as st

from tests.fuzzing.counting import is_long

TEXTS = (
    "", " ", "x" * 70_000, "\n", "a\nforged line", "\x1b[31mred", "\x00", "\u202e\u2028",
    "../../etc", "/etc/passwd", "run", "meta", "adapter", "item_prior", "kind", "payload",
    "release", "train_request", "sum_request", "refusal", "validation", "update", "popularity",
    "float64", "float32", "numpy.ndarray", "fedrec.float32.le", "{}", "null", "é", "site-0001",
    "0" * 64, "f" * 64, "NaN",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, 1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
SIZES = (0, 1, 3, 4, 5, 4096, 70_000)
_RECORDS = ("array_record", "metric_record", "config_record")


class Bytes(bytes):
    """Bytes that a failed test shows in a line."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes, {self[:60]!a}…>"


def choices() -> st.SearchStrategy[Random]:
    """What the mutations are chosen by."""
    return st.randoms(use_true_random=is_long())


def hostile(make: Callable[[Random], bytes]) -> st.SearchStrategy[bytes]:
    """Inputs that `make` makes."""
    return choices().map(make).map(Bytes)


def text(r: Random) -> str:
    """A text that somebody may not expect."""
    if r.random() < 0.7:
        return r.choice(TEXTS)
    return "".join(chr(r.choice([r.randint(1, 127), r.randint(160, 0xD7FF)])) for _ in range(8))


def number(r: Random) -> int:
    """A number that fits into 64 bits."""
    return r.choice(NUMBERS) if r.random() < 0.5 else r.randint(-(2**63), 2**63 - 1)


def some_bytes(r: Random, most: int = 40) -> bytes:
    """A few bytes."""
    return bytes(r.randint(0, 255) for _ in range(r.randint(0, most)))


def damaged(r: Random, content: bytes) -> bytes:
    """Bytes with one flipped, cut, put in, said twice, or a length made huge."""
    sort, at = r.randint(0, 5), r.randint(0, max(len(content) - 1, 0))
    if sort == 0 and content:
        return content[:at] + bytes([content[at] ^ (1 << r.randint(0, 7))]) + content[at + 1 :]
    if sort == 1:
        return content[:at]
    if sort == 2:
        return content[:at] + some_bytes(r) + content[at:]
    if sort == 3:
        return content[:at] + content[at : at + r.randint(1, 200)] + content[at:]
    if sort == 4:
        length = struct.pack(">I", r.choice([2**32 - 1, 2**31, 0, r.randint(0, 9999)]))
        return content[:at] + length + content[at + 4 :]
    return content[at:] + content


def hostile_bytes(r: Random, valid: bytes) -> bytes:
    """`valid` with one to three damages, or nothing of it."""
    if r.random() < 0.05:
        return some_bytes(r, 200)
    for _ in range(r.randint(1, 3)):
        valid = damaged(r, valid)
    return valid


def hostile_record(r: Random, valid: bytes) -> bytes:
    """A RecordDict's bytes, of `valid` with one to three things wrong."""
    proto, by_bytes = Proto.FromString(valid), r.random() < 0.25
    for _ in range(r.randint(0 if by_bytes else 1, 3)):
        _change(r, proto)
    content = proto.SerializeToString()
    return damaged(r, content) if by_bytes else content


def _change(r: Random, proto: Any) -> None:
    """One change somewhere in a RecordDict."""
    if not proto.items:
        proto.items.add().key = text(r)
        return
    item, sort = r.choice(proto.items), r.randint(0, 19)
    if sort == 0:
        proto.items.remove(item)
    elif sort == 1:
        item.key = text(r)
    elif sort == 2:
        proto.items.add().CopyFrom(item)
    elif sort == 3:  # a record of another kind under the same name
        getattr(item, r.choice(_RECORDS)).SetInParent()
    elif item.WhichOneof("value") is not None:
        _change_inside(r, item)


def _change_inside(r: Random, item: Any) -> None:
    sort = item.WhichOneof("value")
    fields = getattr(item, sort).items
    if not fields:
        fields.add().key = text(r)
        return
    field, what = r.choice(fields), r.randint(0, 15)
    if what == 0:
        fields.remove(field)
    elif what == 1:
        field.key = text(r)
    elif what == 2:
        fields.add().CopyFrom(field)
    elif sort == "array_record":
        _array(r, field.value)
    elif sort == "config_record":
        (_value if what < 8 else _near)(r, field.value)


def _value(r: Random, value: Any) -> None:
    """Any type and any content in a field's place."""
    sort = r.randint(0, 7)
    if sort == 0:
        value.string = text(r)
    elif sort == 1:
        value.sint64 = number(r)
    elif sort == 2:
        value.double = r.choice(FLOATS)
    elif sort == 3:
        value.bytes = some_bytes(r)
    elif sort == 4:
        value.bool = r.random() < 0.5
    elif sort == 5:
        value.string_list.vals[:] = [text(r) for _ in range(r.randint(0, 4))]
    elif sort == 6:
        value.double_list.vals[:] = [r.choice(FLOATS) for _ in range(r.randint(0, 3))]
    else:
        value.Clear()  # what Flower's reader expects least: no value at all


def _near(r: Random, value: Any) -> None:
    """The same type, and almost the same content."""
    sort = value.WhichOneof("value")
    if sort == "string":
        at = r.randint(0, max(len(value.string) - 1, 0))
        new = r.choice([*"0123456789abcdef- ~\n\x7f", ""])
        value.string = value.string[:at] + new + value.string[at + 1 :]
    elif sort == "sint64":
        moved = value.sint64 + r.choice([-2, -1, 1, 2, 1000, r.randint(1, 10**9)])
        value.sint64 = max(min(moved, 2**63 - 1), -(2**63))
    elif sort == "bytes":
        value.bytes = damaged(r, value.bytes)
    elif sort == "string_list":
        names = list(value.string_list.vals)
        many = [names[::-1], names[:-1], [*names, "site-9999"], names[:1] * 3, []]
        value.string_list.vals[:] = r.choice(many)
    else:
        _value(r, value)


def _array(r: Random, array: Any) -> None:
    sort = r.randint(0, 6)
    if sort == 0:
        array.dtype = r.choice(["float64", "object", "", "int8", "f4", "\n", text(r)[:99]])
    elif sort == 1:
        array.stype = r.choice(["numpy.ndarray", "", "fedrec.float32.be", "pickle", text(r)[:99]])
    elif sort == 2:
        most = [0, -1, 1, 3, 2**31 - 1, -(2**31), r.randint(0, 10**6)]
        array.shape[:] = [r.choice(most) for _ in range(r.randint(0, 5))]
    elif sort == 3 and array.shape:
        at = r.randint(0, len(array.shape) - 1)
        array.shape[at] = max(min(array.shape[at] + r.choice([-1, 1, 5]), 2**31 - 1), -(2**31))
    elif sort == 4:
        array.data = bytes(r.choice([*SIZES, r.randint(0, 9999)]))
    elif sort == 5:
        at = 4 * r.randint(0, max(len(array.data) // 4 - 1, 0))
        filled = struct.pack("<f", r.choice([float("nan"), float("inf"), float("-inf"), 3e38]))
        array.data = array.data[:at] + filled + array.data[at + 4 :]
    else:
        array.data = damaged(r, array.data)

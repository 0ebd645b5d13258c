"""What goes over the agent's socket: one request, one answer, each one bounded frame.

A frame is a fixed prelude, a head of JSON and a body of bytes::

    magic "FdR1" | kind, 1 byte | length of head, u32 | length of body, u32 | head | body

A request's head is `RequestHead` and its body a Flower RecordDict; an answer has no head and
a RecordDict as its body; a fault's head is one line of text, and it has no body. Lengths are
held against the limits before anything is read, and memory grows only with what arrives.
The transport knows no message types: it carries any.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.bundle_hash import BundleSignature
from common.errors import MessageError
from common.one_line import one_line

MAGIC = b"FdR1"
REQUEST, ANSWER, FAULT = 1, 2, 3
PRELUDE = struct.Struct(">4sBII")
_CHUNK = 1 << 18
# What Flower's reader raises on a buffer that is none, or that leaves out what it needs.
_NO_CONTENT = (DecodeError, ValueError, TypeError, KeyError, AttributeError)

Text = Annotated[str, Field(max_length=200)]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Limits:
    """What one connection may cost the agent.

    Attributes:
        head: most bytes of a head.
        body: most bytes of a body.
        read_s: seconds that may pass without a byte.
        frame_s: seconds that a whole frame may take.
    """

    head: int = 1 << 16
    body: int = 1 << 26
    read_s: float = 10.0
    frame_s: float = 60.0


class _Head(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RequestHead(_Head):
    """What a relay says beside the message's content.

    There is no node config in it: which folder the agent serves is its operator's word.

    Attributes:
        message_type: Flower's type of the message.
        group: the message's group, the number of its round.
        run_config: the run's configuration as Flower carries it.
        code_sha256: hash of the bundle that the relay runs from, as *it* says; or empty.
        signatures: over that hash.
    """

    message_type: Text
    group: Text
    run_config: dict[Text, str | int | float | bool]
    code_sha256: Hex64 | Literal[""] = ""
    signatures: tuple[BundleSignature, ...] = Field((), max_length=8)


class Request(NamedTuple):
    """A request as it arrived; its body is not yet looked into."""

    head: RequestHead
    body: bytes


class Frame(NamedTuple):
    """A whole frame, its lengths within the limits; nothing else is known of it."""

    kind: int
    head: bytes
    body: bytes


def encode_request(head: RequestHead, content: RecordDict) -> bytes:
    """The frame of a request."""
    text = json.dumps(head.model_dump(), ensure_ascii=False).encode("utf-8")
    return frame(REQUEST, text, content_to_bytes(content))


def encode_answer(content: RecordDict) -> bytes:
    """The frame of an answer."""
    return frame(ANSWER, b"", content_to_bytes(content))


def encode_fault(line: str) -> bytes:
    """The frame that says in one line why there is no answer."""
    return frame(FAULT, one_line(line).encode("utf-8"), b"")


def frame(kind: int, head: bytes, body: bytes) -> bytes:
    """One frame."""
    return PRELUDE.pack(MAGIC, kind, len(head), len(body)) + head + body


def parse_request(found: Frame) -> Request:
    """The request in a frame.

    Raises:
        MessageError: it holds none.
    """
    if found.kind != REQUEST:
        raise MessageError(f"a frame of kind {found.kind} is no request ({REQUEST})")
    try:
        values = json.loads(found.head)
        json.dumps(values, ensure_ascii=False).encode("utf-8")  # no half of a surrogate pair
        if isinstance(values, dict) and isinstance(values.get("signatures"), list):
            values["signatures"] = tuple(values["signatures"])  # JSON has no tuple
        return Request(RequestHead.model_validate(values), found.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MessageError(f"the head of a request is wrong at {where[:80]!a}") from error
    except (ValueError, RecursionError) as error:
        raise MessageError("the head of a request is no JSON") from error


def parse_answer(found: Frame) -> RecordDict | str:
    """The answer in a frame, or the line of a fault.

    Raises:
        MessageError: it holds neither.
    """
    if found.kind == FAULT:
        return found.head.decode("utf-8", "replace")
    if found.kind != ANSWER:
        raise MessageError(f"a frame of kind {found.kind} is no answer ({ANSWER})")
    return content_from_bytes(found.body)


def content_to_bytes(content: RecordDict) -> bytes:
    """A RecordDict as Flower's own protocol buffer."""
    return bytes(recorddict_to_proto(content).SerializeToString())


def content_from_bytes(body: bytes) -> RecordDict:
    """The RecordDict in `body`.

    Raises:
        MessageError: it holds none.
    """
    try:
        return recorddict_from_proto(RecordDictProto.FromString(body))
    except _NO_CONTENT as error:
        raise MessageError(f"the content of a message is no RecordDict: {error}"[:200]) from error


def read_frame(connection: socket.socket, limits: Limits) -> Frame:
    """Reads one frame.

    Raises:
        MessageError: it is cut short, too slow, of another protocol, or too large.
        OSError: the connection is broken.
    """
    end = time.monotonic() + limits.frame_s
    prelude = _read(connection, PRELUDE.size, limits.read_s, end)
    magic, kind, head, body = PRELUDE.unpack(prelude)
    if magic != MAGIC:
        raise MessageError(f"a frame begins with {magic!a}, not with {MAGIC!a}")
    for name, length, most in (("head", head, limits.head), ("body", body, limits.body)):
        if length > most:
            raise MessageError(f"the {name} of a frame has {length} bytes, the limit is {most}")
    return Frame(
        kind,
        _read(connection, head, limits.read_s, end),
        _read(connection, body, limits.read_s, end),
    )


def _read(connection: socket.socket, length: int, read_s: float, end: float) -> bytes:
    found = bytearray()
    while len(found) < length:
        left = end - time.monotonic()
        connection.settimeout(max(min(read_s, left), 0.001))
        try:
            part = connection.recv(min(length - len(found), _CHUNK))
        except TimeoutError as error:
            raise MessageError(f"a frame stopped after {len(found)} bytes of {length}") from error
        if not part:
            raise MessageError(f"a frame was cut off after {len(found)} bytes of {length}")
        if left <= 0:
            raise MessageError(f"a frame took longer than allowed, with {len(found)} bytes read")
        found += part
    return bytes(found)

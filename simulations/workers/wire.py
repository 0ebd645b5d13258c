"""What goes through the pipe between the run's process and a worker.

A request is a `Share` and then as many messages, each in Flower's own protocol buffer. The
worker answers with one frame per message, in order: a reply, or that it was too late. A frame
of a fault ends the worker. Nothing else crosses: no unit, no model, no source of randomness.
"""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection

from flwr.app import Message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto

READY, REPLY, LATE, FAULT = b"S", b"R", b"L", b"F"


@dataclass(frozen=True)
class Share:
    """Announces a worker's part of a chunk.

    Attributes:
        messages: how many follow.
        left_s: seconds until the deadline, if there is one.
    """

    messages: int
    left_s: float | None


def message_to_bytes(message: Message) -> bytes:
    """A message in Flower's protocol buffer."""
    return bytes(message_to_proto(message).SerializeToString())


def message_from_bytes(body: bytes) -> Message:
    """The message in `body`, which a process of this run wrote."""
    return message_from_proto(MessageProto.FromString(body))


def send_reply(connection: Connection, reply: Message | None) -> None:
    """Sends one frame: the reply, or that it was too late."""
    connection.send_bytes(LATE if reply is None else REPLY + message_to_bytes(reply))

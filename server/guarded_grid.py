"""A grid on which one node's unreadable reply costs that node's reply alone.

Flower hands out all replies that wait at once, and takes a reply out of its database as it hands
it out. It checks an object's name and head on arrival, not its body, so that a node can send what
raises only where the server unpacks it: then every reply of that pull would be lost with it, and
the ServerApp would end. Here each reply is asked for by itself. And what the SuperLink itself
reports of a message (expired, its node gone, its reply not whole) stands in the name of the node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from logging import WARNING

import httpx
from flwr.app import Message
from flwr.app.error import Error
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore import log
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

POLL_S = 1.0
UNREADABLE = "its reply cannot be unpacked"


def guarded(grid: Grid) -> Grid:
    """`grid`, with replies asked for one by one where they come over the network."""
    return GuardedGrid(grid) if isinstance(grid, HttpGrid) else grid


class GuardedGrid(Grid):
    """Delegates to a grid; see the module."""

    def __init__(self, inner: Grid, sleep: Callable[[float], None] = time.sleep) -> None:
        """Nothing is sent yet.

        Args:
            inner: carries the messages.
            sleep: waits between two looks.
        """
        self._inner, self._sleep = inner, sleep

    def set_run(self, run: Run) -> None:
        """Sets the run."""
        self._inner.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self._inner.run

    def create_message(
        self,
        content: object,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: object = None,
    ) -> Message:
        """Refuses: the constructor of `Message` is what Flower offers for this."""
        raise NotImplementedError("use flwr.app.Message")

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are connected."""
        return self._inner.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """What is known of the nodes that are connected."""
        return self._inner.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends messages.

        Returns:
            Their ids, in order.
        """
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there.

        Raises:
            httpx.HTTPError: the SuperLink cannot be reached, or refuses.
        """
        return [reply for each in message_ids for reply in self._inner.pull_messages([each])]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages and waits for their replies.

        Args:
            messages: what is sent.
            timeout: seconds to wait at most; None: for ever.

        Returns:
            A reply for each message that was answered in time. One that cannot be unpacked is
            an error message of its node.

        Raises:
            httpx.HTTPError: the SuperLink cannot be reached, or refuses.
        """
        sent = list(messages)
        # Flower gives no id for what it does not take, and none at all for what is too large.
        ids = list(self._inner.push_messages(sent)) if sent else []
        waiting = {each: message for each, message in zip(ids, sent, strict=False) if each}
        end = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while waiting and (end is None or time.monotonic() < end):
            for each in list(waiting):
                if found := self._replies_to(each, waiting[each]):
                    replies += found
                    del waiting[each]
            if waiting:
                self._sleep(POLL_S)
        return replies

    def _replies_to(self, message_id: str, message: Message) -> list[Message]:
        try:
            found = list(self._inner.pull_messages([message_id]))
        except (httpx.HTTPError, OSError):  # the server's own trouble, not a node's
            raise
        except Exception as fault:  # noqa: BLE001  whatever a node's bytes may raise in Flower
            node, kind = message.metadata.dst_node_id, type(fault).__name__
            log(WARNING, "node %d: %s (%s)", node, UNREADABLE, kind)
            return [Message(Error(ErrorCode.UNKNOWN, f"{UNREADABLE} ({kind})"), reply_to=message)]
        return [_from_its_node(reply, message) for reply in found]


def _from_its_node(reply: Message, message: Message) -> Message:
    """`reply`; what the SuperLink says of a node that gave none is that node's."""
    if reply.has_error() and reply.metadata.src_node_id == SUPERLINK_NODE_ID:
        return Message(reply.error, reply_to=message)
    return reply

"""What every Grid of ours does with messages: check, number, deliver in chunks, hand on replies.

A chunk is all that is in memory of a round at one time, however many sites there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Protocol
from uuid import uuid4

from flwr.app import Message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

FIRST_NODE_ID = 1001
"""Node of partition 0; above SUPERLINK_NODE_ID, and ordered as the partitions are."""

_TASK_ID = 1


class Delivery(Protocol):
    """Takes messages to their nodes."""

    def answers(
        self, messages: Sequence[Message], left_s: float | None
    ) -> Generator[Message | None]:
        """The replies, in the order of `messages`; None for one that is not there in time.

        If nobody takes the next one, what can be left undone is left undone.

        Args:
            messages: numbered, no two for the same node.
            left_s: seconds until the deadline; no message is taken to a node after it.
        """
        ...


class MessageDesk:
    """The messages of one run on their way to nodes and back."""

    def __init__(
        self,
        delivery: Delivery,
        nodes: int,
        run_id: int,
        *,
        chunk: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the desk.

        Args:
            delivery: takes the messages of a chunk to their nodes.
            nodes: number of nodes.
            run_id: Flower's number of the run.
            chunk: most messages that are on their way at one time.
            clock: seconds that only go forward; deadlines are read from it.
        """
        self._delivery, self._chunk, self._clock = delivery, chunk, clock
        self.node_ids = range(FIRST_NODE_ID, FIRST_NODE_ID + nodes)
        self._pending: dict[str, Message] = {}
        self.set_run(Run.create_empty(run_id))

    def set_run(self, run: Run) -> None:
        """Sets the run, and the identity under which this process makes messages."""
        self._run = run
        take_identity(run.run_id)

    @property
    def run(self) -> Run:
        """The run, as a copy."""
        return Run(**vars(self._run))

    def push(self, messages: Iterable[Message]) -> list[str]:
        """Takes messages; `pull` delivers them."""
        return [self._push(message) for message in messages]

    def pull(self, message_ids: Iterable[str]) -> list[Message]:
        """Delivers the pushed messages among `message_ids` and returns their replies."""
        wanted = [self._pending.pop(key) for key in message_ids if key in self._pending]
        chunks = chunks_of(wanted, self._chunk)
        return [
            reply
            for chunk in chunks
            for reply in self._delivery.answers(chunk, None)
            if reply is not None
        ]

    def send_and_receive(
        self, messages: Iterable[Message], timeout: float | None
    ) -> Iterator[Message]:
        """Yields the replies in order; messages left at the deadline are not delivered.

        Args:
            messages: taken a chunk at a time, when the replies before were consumed.
            timeout: seconds from the first message on; a site that is at work is not cut
                off, but its reply comes too late and is dropped, and nobody after it is
                waited for. Sites that train together end together: a deadline within their
                training drops them all.
        """
        end = None if timeout is None else self._clock() + timeout
        for chunk in chunks_of(messages, self._chunk):
            left_s = None if end is None else end - self._clock()
            if left_s is not None and left_s <= 0:
                return
            taken = [self._pending.pop(key) for key in self.push(chunk)]
            with closing(self._delivery.answers(taken, left_s)) as replies:
                for reply in replies:
                    if reply is None:
                        return
                    yield reply

    def _push(self, message: Message) -> str:
        metadata = message.metadata
        if metadata.run_id != self._run.run_id or metadata.dst_node_id not in self.node_ids:
            raise ValueError(
                f"message for run {metadata.run_id}, node {metadata.dst_node_id} is not for this "
                f"grid (run {self._run.run_id}, {len(self.node_ids)} nodes from {FIRST_NODE_ID})"
            )
        if metadata.message_id or metadata.reply_to_message_id or not message.has_content():
            raise ValueError(f"not a fresh instruction message: {metadata}")
        set_message_id(message)
        self._pending[metadata.message_id] = message
        return metadata.message_id


def chunks_of(messages: Iterable[Message], most: int) -> Iterator[list[Message]]:
    """Cuts `messages` into runs of at most `most`, with no node twice in one.

    Two messages to one site at the same time could wait for each other: the site answers one
    at a time.
    """
    chunk: dict[int, Message] = {}
    for message in messages:
        if message.metadata.dst_node_id in chunk:
            yield list(chunk.values())
            chunk = {}
        chunk[message.metadata.dst_node_id] = message
        if len(chunk) == most:
            yield list(chunk.values())
            chunk = {}
    if chunk:
        yield list(chunk.values())


def set_message_id(message: Message) -> None:
    """Numbers a message as Flower's own grids do: the field has no setter."""
    message.metadata.__dict__["_message_id"] = str(uuid4())


def take_identity(run_id: int) -> None:
    """Sets what Flower needs to know of a process that makes messages."""
    TaskIdentity.task_id = _TASK_ID
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = SUPERLINK_NODE_ID

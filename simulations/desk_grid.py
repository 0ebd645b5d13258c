"""Flower's Grid over a desk of ours, whoever answers the messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict
from flwr.serverapp.grid import Grid
from flwr.supercore.run import Run

from simulations.message_desk import MessageDesk


class DeskGrid(Grid):
    """Hands messages over a `MessageDesk`."""

    def __init__(self, desk: MessageDesk) -> None:
        """Binds the desk of a run."""
        self._desk = desk

    def set_run(self, run: Run) -> None:
        """Sets the run, and the identity under which this process makes messages."""
        self._desk.set_run(run)

    @property
    def run(self) -> Run:
        """The run, as a copy."""
        return self._desk.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Makes a message, as `flwr.app.Message` does."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> range:
        """The nodes, in the order of their partitions."""
        return self._desk.node_ids

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Takes messages; `pull_messages` delivers them."""
        return self._desk.push(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Delivers the pushed messages among `message_ids` and returns their replies."""
        return self._desk.pull(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yields the replies in order; see `MessageDesk.send_and_receive`."""
        return self._desk.send_and_receive(messages, timeout)

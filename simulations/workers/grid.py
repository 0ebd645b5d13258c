"""Flower's Grid to nodes that live in worker processes of this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict
from flwr.serverapp.grid import Grid
from flwr.supercore.run import Run

from simulations.message_desk import MessageDesk
from simulations.workers.pool import WorkerPool


class WorkerGrid(Grid):
    """Delivers messages to the workers of `pool`; a node's state stays in its worker."""

    def __init__(self, pool: WorkerPool, nodes: int, run_id: int, *, chunk: int) -> None:
        """Connects `nodes` nodes.

        Args:
            pool: the run's workers.
            nodes: number of nodes.
            run_id: Flower's number of the run.
            chunk: most messages that are with the workers, all together, at one time.
        """
        self._desk = MessageDesk(pool, nodes, run_id, chunk=chunk)

    def set_run(self, run: Run) -> None:
        """Sets the run; the workers keep the one that they were started for."""
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

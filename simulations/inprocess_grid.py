"""Flower's Grid inside this process: no server, no network, no serialisation.

Messages go straight to a ClientApp, a chunk at a time, in the order of the nodes, and replies
are handed on one by one. A run of 100,000 sites therefore needs the memory of one chunk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from flwr.app import Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp.grid import Grid
from flwr.supercore.run import Run

from simulations.gathering import GatheringTrainer
from simulations.message_desk import FIRST_NODE_ID, MessageDesk
from simulations.simulated_nodes import SimulatedNodes

__all__ = ["DEFAULT_BATCH", "FIRST_NODE_ID", "InProcessGrid"]

DEFAULT_BATCH = 64


class InProcessGrid(Grid):
    """Delivers messages to `client_app` in this process; see the module's docstring."""

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int,
        run_id: int,
        run_config: UserConfig,
        clock: Callable[[], float] = time.monotonic,
        *,
        batch: int = DEFAULT_BATCH,
        gathering: GatheringTrainer | None = None,
    ) -> None:
        """Connects `nodes` nodes.

        Args:
            client_app: answers every message.
            nodes: number of nodes; see `SimulatedNodes`.
            run_id: Flower's number of the run.
            run_config: flat run config that every Context carries.
            clock: seconds that only go forward; deadlines are read from it.
            batch: most sites that are at work together; bounds memory.
            gathering: the trainer that `client_app` was built with, if its sites train
                together.
        """
        self._here = SimulatedNodes(
            client_app, nodes, run_id, run_config, gathering=gathering, clock=clock
        )
        self._desk = MessageDesk(self._here, nodes, run_id, chunk=batch, clock=clock)

    def set_run(self, run: Run) -> None:
        """Sets the run, and the identity under which this process makes messages."""
        self._desk.set_run(run)

    @property
    def run(self) -> Run:
        """The run, as a copy."""
        return self._desk.run

    @property
    def kept_states(self) -> int:
        """Number of nodes whose Context holds a non-empty state."""
        return self._here.kept_states

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

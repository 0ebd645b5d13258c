"""Flower's Grid inside this process: no server, no network, no serialisation.

Messages go straight to a ClientApp, one after the other, in the order of the nodes, and
replies are handed on one by one. A run of 100,000 sites therefore needs the memory of one:
a node's Context is made when a message reaches it, and kept only if its state is not empty.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY, SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp.grid import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

logger = logging.getLogger(__name__)

FIRST_NODE_ID = 1001
"""Node of partition 0; above SUPERLINK_NODE_ID, and ordered as the partitions are."""

_TASK_ID = 1


class InProcessGrid(Grid):
    """Delivers messages to `client_app` in this process; see the module's docstring."""

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int,
        run_id: int,
        run_config: UserConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects `nodes` nodes.

        Args:
            client_app: answers every message.
            nodes: number of nodes; node i has the node config
                ``{"partition-id": i, "num-partitions": nodes}``.
            run_id: Flower's number of the run.
            run_config: flat run config that every Context carries.
            clock: seconds that only go forward; deadlines are read from it.
        """
        self._client_app = client_app
        self._nodes = nodes
        self._run_config = run_config
        self._clock = clock
        self._states: dict[int, RecordDict] = {}
        self._pending: dict[str, Message] = {}
        self._run = Run.create_empty(run_id)
        self.set_run(self._run)

    def set_run(self, run: Run) -> None:
        """Sets the run, and the identity under which this process makes messages."""
        self._run = run
        TaskIdentity.task_id = _TASK_ID
        TaskIdentity.run_id = run.run_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID

    @property
    def run(self) -> Run:
        """The run, as a copy."""
        return Run(**vars(self._run))

    @property
    def kept_states(self) -> int:
        """Number of nodes whose Context holds a non-empty state."""
        return len(self._states)

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
        return range(FIRST_NODE_ID, FIRST_NODE_ID + self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Takes messages; `pull_messages` delivers them."""
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Delivers the pushed messages among `message_ids` and returns their replies."""
        wanted = [key for key in message_ids if key in self._pending]
        return [self._deliver(self._pending.pop(key)) for key in wanted]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yields the replies one by one; messages left at the deadline are not delivered.

        Args:
            messages: taken one at a time, when the reply before was consumed.
            timeout: seconds from the first message on; a site that is at work is not cut
                off, but its reply comes too late and is dropped.
        """
        end = None if timeout is None else self._clock() + timeout
        for message in messages:
            if end is not None and self._clock() >= end:
                return
            key = self._push(message)
            reply = self._deliver(self._pending.pop(key))
            if end is not None and self._clock() > end:
                return
            yield reply

    def _push(self, message: Message) -> str:
        metadata = message.metadata
        if metadata.run_id != self._run.run_id or metadata.dst_node_id not in self.get_node_ids():
            raise ValueError(
                f"message for run {metadata.run_id}, node {metadata.dst_node_id} is not for this "
                f"grid (run {self._run.run_id}, {self._nodes} nodes from {FIRST_NODE_ID})"
            )
        if metadata.message_id or metadata.reply_to_message_id or not message.has_content():
            raise ValueError(f"not a fresh instruction message: {metadata}")
        _set_message_id(message)
        self._pending[metadata.message_id] = message
        return metadata.message_id

    def _deliver(self, message: Message) -> Message:
        context = self._context(message.metadata.dst_node_id)
        try:
            reply = self._client_app(message, context)
        except Exception as fault:
            logger.exception("node %d failed", context.node_id)
            loading = isinstance(fault, LoadClientAppError)
            code = (
                ErrorCode.LOAD_CLIENT_APP_EXCEPTION
                if loading
                else ErrorCode.CLIENT_APP_RAISED_EXCEPTION
            )
            reply = Message(Error(code, f"{type(fault)}:<'{fault}'>"), reply_to=message)
        _set_message_id(reply)
        if len(context.state):
            self._states[context.node_id] = context.state
        else:
            self._states.pop(context.node_id, None)
        return reply

    def _context(self, node_id: int) -> Context:
        """The node's Context, made for this one message."""
        return Context(
            run_id=self._run.run_id,
            node_id=node_id,
            node_config={
                PARTITION_ID_KEY: node_id - FIRST_NODE_ID,
                NUM_PARTITIONS_KEY: self._nodes,
            },
            state=self._states.get(node_id, RecordDict()),
            run_config=dict(self._run_config),
        )


def _set_message_id(message: Message) -> None:
    # Flower's own grids number messages in the same way: the field has no setter.
    message.metadata.__dict__["_message_id"] = str(uuid4())

"""The nodes of a run in this process: each message goes to a ClientApp, without a network.

A node's Context is made when a message reaches it, and kept only if its state is not empty.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY, ErrorCode

from simulations.gathering import GatheringTrainer
from simulations.message_desk import FIRST_NODE_ID, set_message_id

logger = logging.getLogger(__name__)


class SimulatedNodes:
    """A `simulations.message_desk.Delivery` to nodes in this process."""

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int,
        run_id: int,
        run_config: UserConfig,
        *,
        gathering: GatheringTrainer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects `nodes` nodes.

        Args:
            client_app: answers every message.
            nodes: number of nodes; node i has the node config
                ``{"partition-id": i, "num-partitions": nodes}``.
            run_id: Flower's number of the run.
            run_config: flat run config that every Context carries.
            gathering: the trainer that `client_app` was built with, if it gathers.
            clock: seconds that only go forward; deadlines are read from it.
        """
        self._client_app, self._nodes, self._run_id = client_app, nodes, run_id
        self._run_config, self._gathering, self._clock = run_config, gathering, clock
        self._states: dict[int, RecordDict] = {}

    @property
    def kept_states(self) -> int:
        """Number of nodes whose Context holds a non-empty state."""
        return len(self._states)

    def answers(
        self, messages: Sequence[Message], left_s: float | None
    ) -> Generator[Message | None]:
        """See `simulations.message_desk.Delivery`; what the sites train, they train together."""
        end = None if left_s is None else self._clock() + left_s
        calls = [partial(self._answer, message, end) for message in messages]
        if self._gathering is None:
            return (call() for call in calls)
        return self._gathering.together(calls)

    def _answer(self, message: Message, end: float | None) -> Message | None:
        if end is not None and self._clock() >= end:
            return None
        reply = self._delivered(message)
        return None if end is not None and self._clock() > end else reply

    def _delivered(self, message: Message) -> Message:
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
        set_message_id(reply)
        if len(context.state):
            self._states[context.node_id] = context.state
        else:
            self._states.pop(context.node_id, None)
        return reply

    def _context(self, node_id: int) -> Context:
        """The node's Context, made for this one message."""
        return Context(
            run_id=self._run_id,
            node_id=node_id,
            node_config={
                PARTITION_ID_KEY: node_id - FIRST_NODE_ID,
                NUM_PARTITIONS_KEY: self._nodes,
            },
            state=self._states.get(node_id, RecordDict()),
            run_config=dict(self._run_config),
        )

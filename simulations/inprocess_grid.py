"""Flower's Grid inside this process: no server, no network, no serialisation.

Messages go straight to a ClientApp, a chunk at a time, in the order of the nodes, and replies
are handed on one by one. A run of 100,000 sites therefore needs the memory of one chunk.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from flwr.app import UserConfig
from flwr.clientapp import ClientApp

from simulations.desk_grid import DeskGrid
from simulations.gathering import GatheringTrainer
from simulations.message_desk import FIRST_NODE_ID, MessageDesk
from simulations.simulated_nodes import SimulatedNodes

__all__ = ["DEFAULT_BATCH", "FIRST_NODE_ID", "InProcessGrid"]

DEFAULT_BATCH = 64


class InProcessGrid(DeskGrid):
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
        super().__init__(MessageDesk(self._here, nodes, run_id, chunk=batch, clock=clock))

    @property
    def kept_states(self) -> int:
        """Number of nodes whose Context holds a non-empty state."""
        return self._here.kept_states

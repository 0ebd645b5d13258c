"""Flower's Grid to nodes that live in worker processes of this machine."""

from __future__ import annotations

from simulations.desk_grid import DeskGrid
from simulations.message_desk import MessageDesk
from simulations.workers.pool import WorkerPool


class WorkerGrid(DeskGrid):
    """Delivers messages to the workers of `pool`; a node's state stays in its worker."""

    def __init__(self, pool: WorkerPool, nodes: int, run_id: int, *, chunk: int) -> None:
        """Connects `nodes` nodes.

        Args:
            pool: the run's workers.
            nodes: number of nodes.
            run_id: Flower's number of the run.
            chunk: most messages that are with the workers, all together, at one time.
        """
        super().__init__(MessageDesk(pool, nodes, run_id, chunk=chunk))

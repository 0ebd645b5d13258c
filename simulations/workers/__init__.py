"""Worker processes that share the sites of a run on the `inprocess` engine."""

from __future__ import annotations

from simulations.workers.grid import WorkerGrid
from simulations.workers.pool import WorkerPool, worker_pool
from simulations.workers.settings import worker_settings

__all__ = ["WorkerGrid", "WorkerPool", "worker_pool", "worker_settings"]

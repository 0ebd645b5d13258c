"""The engine of the demo: the real ServerApp and ClientApp, joined on this machine.

With one worker all is in this process. With more, the sites are dealt over worker processes,
each with the same code for them, and this process keeps the ServerApp.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp.grid import Grid

from client.app import build_client_app
from client.site_data import federation_catalogue
from common.config import RunConfig
from common.cooccurrence import cell_count
from common.flat_adapter import size
from common.initial_adapter import adapter_shapes
from common.progress import ProgressListener
from common.run_folder import RunFolder
from common.run_keys import IN_ITS_FOLDER, RESUME
from server.app import build_server_app
from simulations.gathering import GatheringTrainer
from simulations.inprocess_grid import InProcessGrid
from simulations.trainers import batch_trainer
from simulations.workers import WorkerGrid, worker_pool, worker_settings
from simulations.workers.process import WorkerTask

_MEMORY = 256 * 2**20
_NUMBER_BYTES = 40  # an adapter's number at a site at work: received, trained, summed, released
_CELL_BYTES = 12  # a co-occurrence's number: counted, and released
_LEAST, _MOST = 8, 256  # a site that waits in a secure sum holds a file open


def run_inprocess(
    config: RunConfig,
    folder: RunFolder,
    listener: ProgressListener,
    *,
    batch: int | None = None,
    resume: bool = False,
) -> None:
    """Runs the federation of `config` on this machine; see `run_engine`.

    Args:
        config: what to run.
        folder: the run's folder.
        listener: hears of progress.
        batch: most sites that a process has at work together; by default as many as a fixed
            memory holds.
        resume: whether to go on with the run in `folder`.

    Raises:
        FedrecError: The run could not go on.
        KeyboardInterrupt: Passed on; all finished rounds are on disk.
    """
    batch = batch or sites_together(config, _cells(config))
    run_id = secrets.randbits(63)
    context = Context(
        run_id=run_id,
        node_id=SUPERLINK_NODE_ID,
        node_config={},
        state=RecordDict(),
        run_config={**config.to_flat(), RESUME: IN_ITS_FOLDER if resume else ""},
    )
    with _torch_threads(config.engine.threads), _grid(config, run_id, batch) as grid:
        build_server_app(run_folder=folder.path, listener=listener)(grid, context)


def sites_together(config: RunConfig, cells: int = 0) -> int:
    """How many sites a process has at work together, so that they take bounded memory.

    Args:
        config: its model says how large an adapter is.
        cells: of each site's co-occurrence, where the run counts it.
    """
    most = max(_NUMBER_BYTES * size(adapter_shapes(config)), _CELL_BYTES * cells)
    return max(_LEAST, min(_MOST, _MEMORY // most))


def _cells(config: RunConfig) -> int:
    if not config.model.item_to_item:
        return 0
    catalogue = federation_catalogue(Path(config.data.sites_folder))
    return cell_count(len(catalogue), config.model.item_to_item_items)


@contextmanager
def _grid(config: RunConfig, run_id: int, batch: int) -> Iterator[Grid]:
    """The Grid to the sites, for as long as the run goes on."""
    sites = config.data.sites
    workers = min(config.engine.workers, sites)
    if workers == 1:
        gathering = GatheringTrainer(batch_trainer(config))
        client_app = build_client_app(gathering)
        yield InProcessGrid(
            client_app, sites, run_id, config.to_flat(), batch=batch, gathering=gathering
        )
        return
    settings = [worker_settings(config, worker, workers) for worker in range(workers)]
    with worker_pool([WorkerTask(sites, run_id, each, batch) for each in settings]) as pool:
        yield WorkerGrid(pool, sites, run_id, chunk=batch * workers)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Computes with `threads` threads (0: as many as torch has now) for the run."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

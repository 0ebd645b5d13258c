"""The engine of the demo: the real ServerApp and ClientApp, joined inside this process."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID

from client.app import app as client_app
from common.config import RunConfig
from common.progress import ProgressListener
from common.run_folder import RunFolder
from server.app import build_server_app
from simulations.inprocess_grid import InProcessGrid


def run_inprocess(config: RunConfig, folder: RunFolder, listener: ProgressListener) -> None:
    """Runs the federation of `config` in this process; see `run_engine`.

    Raises:
        FedrecError: The run could not go on.
        KeyboardInterrupt: Passed on; all finished rounds are on disk.
    """
    run_id = secrets.randbits(63)
    flat = config.to_flat()
    grid = InProcessGrid(client_app, config.data.sites, run_id, flat)
    context = Context(
        run_id=run_id,
        node_id=SUPERLINK_NODE_ID,
        node_config={},
        state=RecordDict(),
        run_config=flat,
    )
    with _torch_threads(config.engine.threads):
        build_server_app(run_folder=folder.path, listener=listener)(grid, context)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Computes with `threads` threads (0: as many as torch has now) for the run."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Chooses the engine that the configuration names."""

from __future__ import annotations

from common.config import RunConfig
from common.progress import ProgressListener
from common.run_folder import RunFolder
from simulations.engines.flower import run_flower
from simulations.engines.inprocess import run_inprocess


def run_engine(
    config: RunConfig, folder: RunFolder, listener: ProgressListener, *, resume: bool = False
) -> None:
    """Runs the federation of `config` with `engine.kind`; its records go to `folder`.

    Args:
        config: what to run; `data.sites_folder` names the simulated sites.
        folder: the run's folder, with no rounds in it yet, unless the run is resumed.
        listener: hears of progress.
        resume: whether to go on with the run in `folder`.

    Raises:
        FedrecError: The run could not go on; what it came to is in the folder.
    """
    run = {"inprocess": run_inprocess, "flower": run_flower}[config.engine.kind]
    run(config, folder, listener, resume=resume)

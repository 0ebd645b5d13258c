"""One run from data to report: sites, engine, lab evaluation, report."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from client.site_data import federation_catalogue
from common.config import RunConfig
from common.context import ContextEncoder, check_attributes
from common.devices import resolve_device
from common.errors import FederationError
from common.interactions import Dataset
from common.progress import ProgressListener
from common.run_folder import RunFolder
from server.resuming import is_trained as is_run_trained
from simulations.audit.run_canaries.audit_run import committed, with_canaries
from simulations.audit.run_canaries.plan import CanarySecret
from simulations.companions import COMPANIONS_FOLDER
from simulations.datasets import load_dataset
from simulations.engines import run_engine
from simulations.lab import examine, write_run_peft
from simulations.public_items import with_item_hash
from simulations.report import build_report
from simulations.simulated_sites import kept_sites, simulated_sites
from simulations.time_cut import with_time_cut


@dataclass(frozen=True)
class SimulationResult:
    """What a run came to.

    Attributes:
        run_folder: Where everything is.
        metrics: The contents of ``metrics.json``; None without the lab's evaluation.
        epsilon: The largest total ε over sites (PRV), None in mode `none`.
        delta: The δ at which it is stated.
        seconds: Wall-clock time of the whole run without downloads.
    """

    run_folder: Path
    metrics: dict[str, Any] | None
    epsilon: float | None
    delta: float
    seconds: float


def simulate(
    config: RunConfig,
    folder: RunFolder,
    listener: ProgressListener,
    *,
    resumable: bool = False,
    resume: bool = False,
) -> SimulationResult:
    """Runs a federation, examines its adapter in the lab, and writes the report.

    An interruption or an error leaves what was finished on disk.

    Args:
        config: What to run.
        folder: The run's folder; it holds the resolved configuration already.
        listener: Hears of progress.
        resumable: Whether the simulated sites are kept where the run is cut short.
        resume: Whether to go on with the run in `folder`; `config` is its own.

    Raises:
        ConfigError: The split is a time cut without times, or the model reads item vectors whose
            hash is not set, and the data are not loaded.
        DataError: The data cannot be used, or lack what `model.context` asks for.
        DeviceError: This machine has no such device as `engine.device` names.
        FederationError: The run could not go on (too few sites are left, say); the report of
            what was done is written, and the error names it.
    """
    resolve_device(config.engine.device)  # a device that is not there is told at once
    if config.engine.threads:
        torch.set_num_threads(config.engine.threads)
    dataset = None
    if config.evaluation.lab:
        listener.message(f"loading {config.data.dataset}")
        dataset = load_dataset(config.data, notify=listener.message)
        check_attributes(ContextEncoder.of(config.model), dataset.users.attributes)
    resolved = with_item_hash(with_time_cut(config, dataset), dataset)
    if resolved is not config:
        config = resolved
        folder.write_config(config)
    if resume and config.evaluation.audit_canaries:
        raise FederationError(
            "a run with canaries is not resumed: their secret dies with it; start a new one"
        )
    config, canaries = committed(config, folder)
    started = time.monotonic()
    try:
        _federate(config, folder, listener, dataset, canaries, resumable=resumable, resume=resume)
    except FederationError as fault:
        if not folder.read_rounds():
            raise
        build_report(folder.path)  # of the rounds that there were, with each site's reason
        report = folder.path / "report.html"
        raise FederationError(f"{fault}; the report up to here is {report}") from fault
    metrics = None
    if resume:  # companions that were cut short are made anew: they share no ledger
        shutil.rmtree(folder.path / COMPANIONS_FOLDER, ignore_errors=True)
    if dataset is not None:
        listener.message("evaluating in the lab: the model and the baselines")
        metrics = examine(config, folder, dataset, started=started, listener=listener)
    listener.message("writing the report")
    build_report(folder.path)
    return SimulationResult(
        run_folder=folder.path,
        metrics=metrics,
        epsilon=total_epsilon(folder),
        delta=config.privacy.target_delta,
        seconds=time.monotonic() - started,
    )


def _federate(
    config: RunConfig,
    folder: RunFolder,
    listener: ProgressListener,
    dataset: Dataset | None,
    canaries: CanarySecret | None,
    *,
    resumable: bool,
    resume: bool,
) -> None:
    """The federation itself; nothing, where a resumed run has only to be examined."""
    is_trained = resume and is_run_trained(folder)
    if is_trained and dataset is not None and not kept_sites(folder).is_dir():
        return
    with simulated_sites(dataset, config, folder, resumable=resumable, resume=resume) as sited:
        if not is_trained:
            with with_canaries(sited, folder, dataset, canaries):
                run_engine(sited, folder, listener, resume=resume)
        if dataset is None:
            catalogue = federation_catalogue(Path(sited.data.sites_folder))
            write_run_peft(config, folder, catalogue)


def total_epsilon(folder: RunFolder) -> float | None:
    """The largest total ε that a site's records state."""
    stated = [r["epsilon_prv"] for r in folder.read_releases() if r["epsilon_prv"] is not None]
    return max(stated, default=None)

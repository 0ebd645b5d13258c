"""One run from data to report: sites, engine, lab evaluation, report."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from client.agent import forget_agents
from client.ledger_export import export_file
from client.site_data import declared_name, federation_catalogue
from client.site_ledger import LEDGER_FILE
from common.atomic_files import file_errors
from common.cache_folder import cache_folder
from common.config import RunConfig
from common.devices import resolve_device
from common.errors import FederationError
from common.interactions import Dataset
from common.progress import ProgressListener
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.engines import run_engine
from simulations.lab import examine, write_run_peft
from simulations.report import build_report
from simulations.site_layout import write_sites


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


def simulate(config: RunConfig, folder: RunFolder, listener: ProgressListener) -> SimulationResult:
    """Runs a federation, examines its adapter in the lab, and writes the report.

    An interruption or an error leaves what was finished on disk.

    Args:
        config: What to run.
        folder: The run's folder; it holds the resolved configuration already.
        listener: Hears of progress.

    Raises:
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
    started = time.monotonic()
    try:
        with simulated_sites(dataset, config, folder) as sited:
            run_engine(sited, folder, listener)
            if dataset is None:
                catalogue = federation_catalogue(Path(sited.data.sites_folder))
                write_run_peft(config, folder, catalogue)
    except FederationError as fault:
        if not folder.read_rounds():
            raise
        build_report(folder.path)  # of the rounds that there were, with each site's reason
        report = folder.path / "report.html"
        raise FederationError(f"{fault}; the report up to here is {report}") from fault
    metrics = None
    if dataset is not None:
        listener.message("evaluating in the lab: the model and the baselines")
        metrics = examine(config, folder, dataset, started=started)
    listener.message("writing the report")
    build_report(folder.path)
    return SimulationResult(
        run_folder=folder.path,
        metrics=metrics,
        epsilon=total_epsilon(folder),
        delta=config.privacy.target_delta,
        seconds=time.monotonic() - started,
    )


@contextmanager
def simulated_sites(
    dataset: Dataset | None, config: RunConfig, folder: RunFolder
) -> Iterator[RunConfig]:
    """Gives the run its sites: those of `data.sites_folder`, or some that live for the run.

    A data set that is not at hand is loaded or streamed where sites must be made of it.

    A run's folder may be handed to anyone, so the sites' data never lie in it; the exports
    of their ledgers do, whatever ends the run.
    """
    with ExitStack() as stack:
        if config.data.sites_folder:
            sites = Path(config.data.sites_folder).resolve()
        else:
            sites = stack.enter_context(_temporary_folder()) / "sites"
            write_sites(config.data, sites, dataset=dataset)
        data = config.data.model_copy(update={"sites_folder": str(sites)})
        try:
            yield config.model_copy(update={"data": data})
        finally:
            forget_agents()
            export_ledgers(sites, folder)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    parent = cache_folder() / "simulated-sites"
    with file_errors("make", parent):
        parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(dir=parent)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def export_ledgers(sites: Path, folder: RunFolder) -> None:
    """Writes the export of every site's ledger that exists into the run's folder."""
    for path in sorted(sites.glob(f"*/{LEDGER_FILE}")):
        folder.write_ledger(declared_name(path.parent), export_file(path))


def total_epsilon(folder: RunFolder) -> float | None:
    """The largest total ε that a site's records state."""
    stated = [r["epsilon_prv"] for r in folder.read_releases() if r["epsilon_prv"] is not None]
    return max(stated, default=None)

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
from client.site_ledger import LEDGER_FILE
from common.atomic_files import file_errors
from common.cache_folder import cache_folder
from common.config import RunConfig
from common.devices import resolve_device
from common.errors import FederationError
from common.interactions import Dataset
from common.progress import ProgressListener
from common.run_folder import RunFolder
from common.site_folder import MANIFEST_FILE, SiteManifest, read_manifest, read_sites
from simulations.datasets import load_dataset
from simulations.engines import run_engine
from simulations.lab import examine
from simulations.partition import write_site_folders
from simulations.report import build_report


@dataclass(frozen=True)
class SimulationResult:
    """What a run came to.

    Attributes:
        run_folder: Where everything is.
        metrics: The contents of ``metrics.json``.
        epsilon: The largest total ε over sites (PRV), None in mode `none`.
        delta: The δ at which it is stated.
        seconds: Wall-clock time of the whole run without downloads.
    """

    run_folder: Path
    metrics: dict[str, Any]
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
    listener.message(f"loading {config.data.dataset}")
    dataset = load_dataset(config.data, notify=listener.message)
    started = time.monotonic()
    try:
        with simulated_sites(dataset, config, folder) as sited:
            run_engine(sited, folder, listener)
    except FederationError as fault:
        if not folder.read_rounds():
            raise
        build_report(folder.path)  # of the rounds that there were, with each site's reason
        report = folder.path / "report.html"
        raise FederationError(f"{fault}; the report up to here is {report}") from fault
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
def simulated_sites(dataset: Dataset, config: RunConfig, folder: RunFolder) -> Iterator[RunConfig]:
    """Gives the run its sites: those of `data.sites_folder`, or some that live for the run.

    A run's folder may be handed to anyone, so the sites' data never lie in it; the exports
    of their ledgers do, whatever ends the run.
    """
    with ExitStack() as stack:
        if config.data.sites_folder:
            sites = Path(config.data.sites_folder).resolve()
        else:
            sites = stack.enter_context(_temporary_folder()) / "sites"
            write_site_folders(dataset, config.data, sites)
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
    for site_folder in read_sites(sites):
        path = site_folder / LEDGER_FILE
        if path.is_file():
            manifest = read_manifest(site_folder / MANIFEST_FILE, SiteManifest)
            folder.write_ledger(manifest.site, export_file(path))


def total_epsilon(folder: RunFolder) -> float | None:
    """The largest total ε that a site's records state."""
    stated = [r["epsilon_prv"] for r in folder.read_releases() if r["epsilon_prv"] is not None]
    return max(stated) if stated else None

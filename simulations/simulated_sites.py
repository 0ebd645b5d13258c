"""A simulation's sites: folders that live as long as the run, and their ledgers' exports."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from client.agent import forget_agents
from client.ledger_export import export_file
from client.site_data import declared_name
from client.site_ledger import LEDGER_FILE
from common.atomic_files import file_errors
from common.cache_folder import cache_folder
from common.config import RunConfig
from common.interactions import Dataset
from common.run_folder import RunFolder
from simulations.site_layout import write_sites


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

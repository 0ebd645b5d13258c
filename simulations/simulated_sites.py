"""A simulation's sites: folders that live as long as the run, and their ledgers' exports."""

from __future__ import annotations

import hashlib
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
from common.errors import RunFolderError
from common.interactions import Dataset
from common.run_folder import RunFolder
from simulations.site_layout import write_sites


@contextmanager
def simulated_sites(
    dataset: Dataset | None,
    config: RunConfig,
    folder: RunFolder,
    *,
    resumable: bool = False,
    resume: bool = False,
) -> Iterator[RunConfig]:
    """Gives the run its sites: those of `data.sites_folder`, or some that live for the run.

    A data set that is not at hand is loaded or streamed where sites must be made of it.

    A run's folder may be handed to anyone, so the sites' data never lie in it; the exports
    of their ledgers do, whatever ends the run.

    Args:
        dataset: the pooled data, if they are loaded.
        config: of the run.
        folder: of the run.
        resumable: whether the sites are kept, with their ledgers, where the run is cut short.
        resume: whether the run goes on with the sites that were kept for it.

    Raises:
        RunFolderError: nothing was kept.
    """
    with ExitStack() as stack:
        if config.data.sites_folder:
            sites = Path(config.data.sites_folder).resolve()
        else:
            kept = kept_sites(folder) if resumable or resume else None
            made = _temporary_folder() if kept is None else _kept_folder(kept, resume=resume)
            sites = stack.enter_context(made) / "sites"
            if not resume:
                write_sites(config.data, sites, dataset=dataset)
        data = config.data.model_copy(update={"sites_folder": str(sites)})
        try:
            yield config.model_copy(update={"data": data})
        finally:
            forget_agents()
            export_ledgers(sites, folder)


def kept_sites(folder: RunFolder) -> Path:
    """Where the simulated sites of the run in `folder` are, as long as it can be resumed."""
    name = hashlib.sha256(str(folder.path.resolve()).encode()).hexdigest()[:32]
    return cache_folder() / "simulated-sites" / name


@contextmanager
def _kept_folder(path: Path, *, resume: bool) -> Iterator[Path]:
    if resume and not path.is_dir():
        raise RunFolderError(
            "the run's simulated sites are gone with their ledgers: they are kept only where a "
            "run is cut short; start a new run"
        )
    with file_errors("make", path):
        if not resume:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
    try:
        yield path
    except (KeyboardInterrupt, RunFolderError):  # stopped, or a full disk: it may go on
        raise
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)


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

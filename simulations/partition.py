"""Simulation only: partitions users and writes a folder per site (see `common.site_folder`)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from common.config import DataConfig
from common.errors import DataError
from common.holdout import UserSplit, hold_out
from common.interactions import Dataset, Int64Array
from common.site_folder import (
    INTERACTIONS_FILE,
    ITEMS_FILE,
    MANIFEST_FILE,
    SITES_FILE,
    USERS_FILE,
    SiteManifest,
    SitesManifest,
    write_catalogue,
    write_interactions,
    write_manifest,
    write_users,
)
from simulations.user_partition import partition_users as partition_users

SITE_FILES = {INTERACTIONS_FILE, ITEMS_FILE, MANIFEST_FILE, USERS_FILE}


def write_site_folders(dataset: Dataset, config: DataConfig, folder: Path) -> list[Path]:
    """Partition the users and write the federation folder, whole or not at all.

    An earlier federation folder is replaced, unless it holds something that this function
    did not write (a ledger, say).

    Args:
        dataset: A checked data set.
        config: The run's `data` section.
        folder: The federation folder, e.g. ``runs/NAME/sites``.

    Returns:
        The sites' folders, in order.

    Raises:
        DataError: The partition is impossible, the folder holds something else, or the disk
            does not take the files.
    """
    parts = partition_users(dataset, config)
    folder = folder.resolve()
    _refuse_foreign(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            sites = _write_all(dataset, config, parts, new)
            _swap_in(new, folder, Path(temporary) / "old")
    except (OSError, shutil.Error) as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); free space or choose "
            "another folder"
        ) from error
    return [folder / site for site in sites]


def _write_all(
    dataset: Dataset, config: DataConfig, parts: list[Int64Array], new: Path
) -> tuple[str, ...]:
    sites = tuple(f"site-{number:04d}" for number in range(len(parts)))
    sha256 = dataset.catalogue.sha256
    write_catalogue(new / ITEMS_FILE, dataset.catalogue)
    examples = np.array([len(split.train) for split in _splits(dataset, config)])
    site_of_user = np.zeros(len(dataset.users.user_ids), dtype=np.int64)
    for number, part in enumerate(parts):
        site_of_user[part] = number
    site_of_row = site_of_user[dataset.interactions.user]
    by_site = np.argsort(site_of_row, kind="stable")
    ends = np.cumsum(np.bincount(site_of_row, minlength=len(parts)))
    for site, part, rows in zip(sites, parts, np.split(by_site, ends[:-1]), strict=True):
        (new / site).mkdir()
        write_interactions(
            new / site / INTERACTIONS_FILE, dataset.interactions, dataset.catalogue, rows
        )
        write_users(new / site / USERS_FILE, dataset.users, part)
        manifest = SiteManifest(
            site=site,
            declared_units=len(part),
            declared_examples=int(examples[part].sum()),
            dataset=dataset.name,
            catalogue=f"../{ITEMS_FILE}",
            catalogue_sha256=sha256,
            simulated=True,
            min_interactions=config.min_interactions,
        )
        write_manifest(new / site / MANIFEST_FILE, manifest)
    overview = SitesManifest(dataset=dataset.name, catalogue_sha256=sha256, sites=sites)
    write_manifest(new / SITES_FILE, overview)
    return sites


def _splits(dataset: Dataset, config: DataConfig) -> list[UserSplit]:
    return hold_out(dataset.interactions, dataset.catalogue, split=config.split, seed=config.seed)


def _swap_in(new: Path, folder: Path, old: Path) -> None:
    """Put `new` at `folder`; an earlier folder goes to `old`, and back if that fails."""
    if not folder.exists():
        new.rename(folder)
        return
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but a federation's own files."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file; choose another folder for the sites")
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        ours = (
            inside[0] in (SITES_FILE, ITEMS_FILE)
            if len(inside) == 1 and path.is_file()
            else inside[0].startswith("site-")
            and (len(inside) == 1 or (len(inside) == 2 and inside[1] in SITE_FILES))
        )
        if not ours:
            raise DataError(
                f"{folder}: holds {path.relative_to(folder)}, which a partition did not write; "
                "choose another folder"
            )

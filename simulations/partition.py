"""Simulation only: partitions users and writes the sites, a folder each or pooled.

The layouts are those of `common.site_folder` and `common.pooled_sites`; a site's data are the
same in both, and its name, which seeds its streams, too.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from common.config import DataConfig
from common.errors import DataError
from common.holdout import train_lengths
from common.interactions import Dataset, Int64Array
from common.pooled_sites import POOL_FILES
from common.shown_items import shown_table
from common.site_folder import (
    INTERACTIONS_FILE,
    ITEMS_FILE,
    MANIFEST_FILE,
    SHOWN_FILE,
    SITES_FILE,
    USERS_FILE,
    SiteManifest,
    SitesManifest,
    interaction_table,
    site_name,
    user_table,
    write_catalogue,
    write_interactions,
    write_manifest,
    write_users,
)
from simulations.pool_writer import PoolWriter
from simulations.public.shown import shown_of
from simulations.user_partition import partition_users as partition_users

SITE_FILES = {INTERACTIONS_FILE, ITEMS_FILE, MANIFEST_FILE, SHOWN_FILE, USERS_FILE}
FEDERATION_FILES = {SITES_FILE, *POOL_FILES}
SITES_AT_ONCE = 4096


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
    with new_federation(folder) as new:
        sites = _write_all(dataset, config, parts, new)
    return [folder.resolve() / site for site in sites]


def write_pool(dataset: Dataset, config: DataConfig, folder: Path) -> None:
    """As `write_site_folders`, all sites in common files."""
    parts = partition_users(dataset, config)
    with new_federation(folder) as new:
        write_catalogue(new / ITEMS_FILE, dataset.catalogue)
        writer = PoolWriter(new, dataset.name, dataset.catalogue.sha256, config.min_interactions)
        with writer:
            _pool_all(writer, dataset, config, parts)


@contextmanager
def new_federation(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` at the end, whole or not at all.

    Raises:
        DataError: `folder` holds something else, or the disk does not take the files.
    """
    folder = folder.resolve()
    _refuse_foreign(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            yield new
            _swap_in(new, folder, Path(temporary) / "old")
    except (OSError, shutil.Error) as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); free space or choose "
            "another folder"
        ) from error


def _pool_all(
    writer: PoolWriter, dataset: Dataset, config: DataConfig, parts: list[Int64Array]
) -> None:
    """Hands the sites to `writer` a few thousand at a time."""
    by_site, rows = _rows_by_site(dataset, parts)
    trained = _trained(dataset, config)
    ends = np.cumsum(rows)
    for first in range(0, len(parts), SITES_AT_ONCE):
        here = slice(first, first + SITES_AT_ONCE)
        start = ends[first] - rows[first]
        taken = by_site[start : start + rows[here].sum()]
        writer.add(
            interaction_table(dataset.interactions, dataset.catalogue, taken),
            user_table(dataset.users, np.concatenate(parts[here])),
            rows=rows[here],
            users_of_site=np.array([len(part) for part in parts[here]]),
            examples=np.array([trained[part].sum() for part in parts[here]]),
        )


def _trained(dataset: Dataset, config: DataConfig) -> Int64Array:
    """How many interactions of each user train."""
    rows, users = dataset.interactions, len(dataset.users.user_ids)
    return train_lengths(rows.user, rows.timestamp, users, split=config.split, cut=config.cut)


def _rows_by_site(dataset: Dataset, parts: list[Int64Array]) -> tuple[Int64Array, Int64Array]:
    """The interactions' rows in the order of the sites, and how many each site has."""
    site_of_user = np.zeros(len(dataset.users.user_ids), dtype=np.int64)
    for number, part in enumerate(parts):
        site_of_user[part] = number
    site_of_row = site_of_user[dataset.interactions.user]
    return np.argsort(site_of_row, kind="stable"), np.bincount(site_of_row, minlength=len(parts))


def _write_all(
    dataset: Dataset, config: DataConfig, parts: list[Int64Array], new: Path
) -> tuple[str, ...]:
    sites = tuple(map(site_name, range(len(parts))))
    sha256 = dataset.catalogue.sha256
    write_catalogue(new / ITEMS_FILE, dataset.catalogue)
    examples = _trained(dataset, config)
    by_site, counts = _rows_by_site(dataset, parts)
    shown = shown_of(config, dataset)
    rows_of_sites = np.split(by_site, np.cumsum(counts)[:-1])
    for site, part, rows in zip(sites, parts, rows_of_sites, strict=True):
        (new / site).mkdir()
        write_interactions(
            new / site / INTERACTIONS_FILE, dataset.interactions, dataset.catalogue, rows
        )
        write_users(new / site / USERS_FILE, dataset.users, part)
        if shown is not None:
            ids = [dataset.users.user_ids[user] for user in part]
            pq.write_table(shown_table(shown, dataset.catalogue, ids), new / site / SHOWN_FILE)
        manifest = SiteManifest(
            site=site,
            declared_units=len(part),
            declared_examples=max(1, int(examples[part].sum())),
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
            inside[0] in FEDERATION_FILES
            if len(inside) == 1 and path.is_file()
            else inside[0].startswith("site-")
            and (len(inside) == 1 or (len(inside) == 2 and inside[1] in SITE_FILES))
        )
        if not ours:
            raise DataError(
                f"{folder}: holds {path.relative_to(folder)}, which a partition did not write; "
                "choose another folder"
            )

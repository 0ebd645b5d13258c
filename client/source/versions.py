"""A site's tables as one set: the old one or the new one, and never a part of either.

A refresh writes a whole new folder ``data/NNNNNN`` and flushes it. ``site.json``, which names
the folder, is then replaced by one rename: that rename is the switch. Whatever a crash leaves
beside it was never the site's, and the next refresh removes it. The set before the last one
stays until then, for who was just reading it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from client.source.staging import scratch_faults
from common.atomic_files import write_text
from common.errors import DataError, RunFolderError
from common.site_folder import MANIFEST_FILE, SiteManifest

DATA_FOLDER = "data"
LOCK_FILE = "refresh.lock"
STATE_FILE = "refresh.json"
_NEW = "new"


class RefreshState(BaseModel):
    """What a refresh leaves for the next one, in the folder that it made.

    Attributes:
        watermark: unix seconds of the latest interaction.
        full_at: unix seconds of the last full read.
        reads: `reading_hash` of the settings; another one needs a full read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    watermark: int
    full_at: float
    reads: str


@contextmanager
def only_refresh(folder: Path) -> Iterator[None]:
    """Holds the site's refresh lock, which the kernel drops with the process.

    Raises:
        DataError: another refresh of this site is under way.
        RunFolderError: the lock cannot be made.
    """
    with scratch_faults():
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(folder / LOCK_FILE, flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError("another refresh of this site is under way; wait for its end") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def new_version(folder: Path, current: SiteManifest | None) -> Iterator[Path]:
    """An empty folder for new tables; it is gone afterwards unless it was published.

    Raises:
        RunFolderError: the disk refuses.
    """
    data = folder / DATA_FOLDER
    with scratch_faults():
        data.mkdir(mode=0o700, exist_ok=True)
        _remove_others(data, {_number_of(current)})
        new = data / _NEW
        new.mkdir(mode=0o700)
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def publish(folder: Path, new: Path, manifest: SiteManifest, current: SiteManifest | None) -> None:
    """Make `new` the site's tables.

    Args:
        folder: the site's.
        new: of `new_version`, complete.
        manifest: what the site declares from now on, without a place of its tables.
        current: what it declared before.

    Raises:
        RunFolderError: the disk refuses; the old tables stand.
    """
    before = _number_of(current)
    name = f"{int(before or 0) + 1:06d}"
    tables = f"{DATA_FOLDER}/{name}"
    placed = manifest.model_copy(
        update={"tables": tables, "catalogue": f"{tables}/{manifest.catalogue}"}
    )
    with scratch_faults():
        for path in (*new.iterdir(), new):
            _flush(path)
        new.rename(new.with_name(name))
        _flush(new.parent)
    try:
        write_text(folder / MANIFEST_FILE, placed.model_dump_json(indent=2) + "\n")
    except RunFolderError:
        shutil.rmtree(new.with_name(name), ignore_errors=True)
        raise RunFolderError(
            "cannot write the site's manifest; free some space on the site's disk, or correct "
            "the folder's permissions, and run again"
        ) from None
    with scratch_faults():
        _remove_others(new.parent, {before, name})


def state_of(folder: Path, current: SiteManifest | None) -> RefreshState | None:
    """What the last refresh left; None where nothing did, or another version of fedrec."""
    if current is None or not current.tables:
        return None
    try:
        return RefreshState.model_validate_json((folder / current.tables / STATE_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _number_of(manifest: SiteManifest | None) -> str:
    return "" if manifest is None else Path(manifest.tables).name


def _remove_others(data: Path, kept: set[str]) -> None:
    for path in data.iterdir():
        if path.name not in kept:
            shutil.rmtree(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

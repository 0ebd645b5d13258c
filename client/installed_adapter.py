"""Adapters at a site: each in a folder of its own that never changes, and one is current.

::

    SITE/adapters/
        0001-1a2b3c4d5e6f/    a verified export
        0002-…/
        current.json          which one, and which ones before it

``current.json`` is replaced by a rename, so that a reader finds the old or the new adapter,
whole, whenever it looks; going back is the same switch.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from client.policy import SitePolicy
from common.adapter_export import (
    MANIFEST_FILE,
    ExportedAdapter,
    Manifest,
    read_export,
    verify_export,
)
from common.atomic_files import file_errors, write_json
from common.base_weights import resolve_base_weights
from common.errors import ConfigError, ExportError
from common.interactions import Catalogue
from common.item_vectors import fused_vectors

ADAPTERS_FOLDER = "adapters"
CURRENT_FILE = "current.json"


class Current(BaseModel):
    """``current.json``.

    Attributes:
        current: name of the adapter's folder.
        before: those that were current before it, oldest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int = 1
    current: str
    before: list[str] = []


def install_adapter(
    export: Path, site: Path, policy: SitePolicy, catalogue: Catalogue, key: str | None
) -> tuple[str, Manifest]:
    """Verifies an export, copies it, verifies the copy, and makes it the current one.

    Args:
        export: the coordinator's folder.
        site: the site's folder.
        policy: the site's; it may list trusted signers and base weights.
        catalogue: the site's items.
        key: the coordinator's public key (hex); None: the policy's `code_signers`.

    Returns:
        The name of the new version, and its manifest.

    Raises:
        ConfigError: no key is trusted.
        ExportError: the export is not what a trusted key signed, or not for this site's model.
        DataError: the site's catalogue lacks the item vectors that it reads.
        PolicyRefusal: the policy does not allow its base weights.
        RunFolderError: the disk refuses; the current adapter is as it was.
    """
    signers = frozenset({key}) if key else policy.code_signers or frozenset()
    if not signers:
        raise ConfigError(
            ["no key is trusted to sign adapters; give --key, or set code_signers in policy.toml"]
        )
    manifest = verify_export(export, signers)  # a plain no before anything is copied
    folder = site / ADAPTERS_FOLDER
    with file_errors("make", folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    with _alone(folder):
        with file_errors("make", folder):
            made = Path(tempfile.mkdtemp(prefix=".new.", dir=folder))
        try:
            _copy(export, made)
            manifest = verify_export(made, signers)  # what was copied, whatever happened meanwhile
            _check_fits(read_export(made, manifest), policy, catalogue)
            name = f"{_next_number(folder):04d}-{_digest(made)[:12]}"
            with file_errors("make", folder / name):
                os.rename(made, folder / name)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        now = read_current(site)
        before = [] if now is None else [*now.before, now.current]
        _switch(folder, Current(current=name, before=before))
    return name, manifest


def rollback_adapter(site: Path) -> str:
    """Makes the adapter before the current one the current one; returns its name.

    Raises:
        ExportError: there is none before it.
    """
    folder = site / ADAPTERS_FOLDER
    if read_current(site) is None:
        raise ExportError(f"{site} has no adapter installed; there is nothing to go back from")
    with _alone(folder):
        now = read_current(site)
        if now is None or not now.before:
            raise ExportError(f"{site} has no adapter before the current one; install another")
        name = now.before[-1]
        if not (folder / name / MANIFEST_FILE).is_file():
            raise ExportError(f"{folder / name} is gone; install that adapter again")
        _switch(folder, Current(current=name, before=now.before[:-1]))
    return name


def read_current(site: Path) -> Current | None:
    """Which adapter is current, or None where none is installed.

    Raises:
        ExportError: the file is damaged.
    """
    path = site / ADAPTERS_FOLDER / CURRENT_FILE
    if not path.is_file():
        return None
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        return Current.model_validate_json(content)
    except ValidationError as error:
        raise ExportError(f"{path} is damaged; install the adapter again") from error


def current_folder(site: Path) -> Path | None:
    """The folder of the current adapter."""
    now = read_current(site)
    return None if now is None else site / ADAPTERS_FOLDER / now.current


def _check_fits(found: ExportedAdapter, policy: SitePolicy, catalogue: Catalogue) -> None:
    manifest = found.manifest
    here = resolve_base_weights(found.config.model.weights).sha256
    policy.check_base_weights(here)
    if manifest.base_weights_sha256 and here and here != manifest.base_weights_sha256:
        raise ExportError(
            f"the adapter was trained on base weights with SHA-256 "
            f"{manifest.base_weights_sha256[:16]}…, this site has {here[:16]}…; get the same ones"
        )
    fused_vectors(found.config.model, catalogue.vectors)
    if len(found.item_prior) not in (0, len(catalogue)):
        raise ExportError(
            f"the adapter's item prior is for {len(found.item_prior)} items, this site's "
            f"catalogue has {len(catalogue)}; get the federation's catalogue"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One installer at a time; the kernel drops the lock with the process."""
    with file_errors("lock", folder):
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _copy(export: Path, made: Path) -> None:
    """Every file, flushed to the disk: the switch must never come before its adapter."""
    with file_errors("copy", export):
        for path in export.iterdir():
            target = made / path.name
            shutil.copyfile(path, target)
            with target.open("rb") as file:
                os.fsync(file.fileno())


def _next_number(folder: Path) -> int:
    numbers = [int(p.name[:4]) for p in folder.iterdir() if p.name[:4].isdigit()]
    return max(numbers, default=0) + 1


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()


def _switch(folder: Path, current: Current) -> None:
    write_json(folder / CURRENT_FILE, current.model_dump())

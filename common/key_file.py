"""A secret key in a file: made once, mode 0600, and refused where others may read it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from common.atomic_files import file_errors
from common.errors import PrivacyError

KEY_BYTES = 32


def load_key(
    path: Path, owner: str, error: type[PrivacyError], *, begin: bool, flushed: bool = True
) -> bytes:
    """The 32 random bytes in `path`; they are made (mode 0600) where there are none, if `begin`.

    Args:
        path: of the key.
        owner: whose key it is, for the message: ``the site's``.
        error: what is raised.
        begin: whether a missing key is made.
        flushed: whether to wait until the disk has it.

    Raises:
        PrivacyError: as `error`: the key is missing, damaged, or readable by others.
        RunFolderError: the file system refuses.
    """
    if begin and not path.exists():
        _begin(path, flushed=flushed)
    if not path.is_file():
        raise error(
            f"{owner} key {path} is missing; restore it, what it signed cannot go on without it"
        )
    with file_errors("read", path):
        mode, content = path.stat().st_mode, path.read_bytes()
    if os.name == "posix" and mode & 0o077:
        raise error(f"{owner} key {path} may be read by others; chmod 600 {path}")
    if len(content) != KEY_BYTES:
        raise error(f"{owner} key {path} is damaged; restore it from a backup")
    return content


def _begin(path: Path, *, flushed: bool) -> None:
    """Make the key, whole or not at all; where two processes race, the first one's stands."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with file_errors("write", path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                if flushed:
                    os.fsync(file.fileno())
            with suppress(FileExistsError):
                path.hardlink_to(temporary)
        finally:
            temporary.unlink()

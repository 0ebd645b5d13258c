"""One server at a time per run's folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.atomic_files import file_errors
from common.errors import RunFolderError


@contextmanager
def only_server(path: Path) -> Iterator[None]:
    """Holds the run's folder `path`; it is made where there is none.

    The kernel drops the lock with the process, however that ends.

    Raises:
        RunFolderError: another server works in it, or it cannot be made.
    """
    with file_errors("make the run folder", path):
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(
                f"a server is at work on the run {path}; stop that one first, or wait for its end"
            ) from None
        yield
    finally:
        os.close(descriptor)

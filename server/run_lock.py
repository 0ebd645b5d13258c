"""One server at a time per run's folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.atomic_files import file_errors
from common.errors import RunFolderError

_TRIES, _PAUSE_S = 20, 0.02
"""`is_at_work` holds the lock for an instant; a server that starts just then tries again."""


@contextmanager
def only_server(path: Path) -> Iterator[None]:
    """Holds the run's folder `path`; it is made where there is none.

    The kernel drops the lock with the process, however that ends.

    Raises:
        RunFolderError: another server works in it, or it cannot be made.
    """
    with file_errors("make the run folder", path):
        path.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(path)
    try:
        if not any(_is_taken(descriptor, attempt) for attempt in range(_TRIES)):
            raise RunFolderError(
                f"a server is at work on the run {path}; stop that one first, or wait for its end"
            )
        yield
    finally:
        os.close(descriptor)


def is_at_work(path: Path) -> bool:
    """Whether a server is at work on the run in `path`.

    Raises:
        RunFolderError: the folder cannot be read.
    """
    with file_errors("read", path):
        descriptor = _opened(path)
        try:
            # Shared: those who only look never keep each other out.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_taken(descriptor: int, attempt: int) -> bool:
    if attempt:
        time.sleep(_PAUSE_S)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

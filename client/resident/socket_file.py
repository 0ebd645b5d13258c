"""Where the agent listens: a private folder, one agent per socket and per site, no stale file."""

from __future__ import annotations

import fcntl
import grp
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.atomic_files import file_errors
from common.errors import SiteAgentError
from common.state_folder import state_folder

MAX_PATH = 100
"""Bytes; the kernel's field for a socket's path has 108."""
BACKLOG = 64
"""Connections that may wait to be accepted; beyond, a relay is told at once."""


def default_socket(site: str) -> Path:
    """``SITE.sock`` in systemd's ``RUNTIME_DIRECTORY``, else in the user's state folder."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    folder = Path(given) if given else state_folder() / "run"
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', site)[:40]}.sock"


@contextmanager
def only_agent(lock: Path, what: str) -> Iterator[None]:
    """Holds the lock file `lock` for as long as this process serves `what`.

    The kernel drops the lock with the process, however that ends; the file stays.

    Raises:
        SiteAgentError: another agent holds it.
        RunFolderError: the file cannot be made.
    """
    with file_errors("lock", lock):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise SiteAgentError(
                f"{what} is served by another agent (process {holder}); stop that one first"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def listening_socket(path: Path, group: str | None) -> Iterator[socket.socket]:
    """A listening Unix socket at `path`, mode 0660, gone when the block ends.

    The folder is made with mode 0750 where there is none. A socket file that a dead agent
    left is replaced; the lock beside it tells dead from alive.

    Args:
        path: of the socket.
        group: name or number; its members may connect. It gets the socket, and the folder
            if that is made here. None: the group of this process.

    Raises:
        SiteAgentError: the path is too long, the folder is open to others, the group is not
            there, another agent listens, or something else than a socket lies there.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise SiteAgentError(
            f"socket path {path} is longer than {MAX_PATH} bytes; give a shorter --socket"
        )
    gid = -1 if group is None else _gid(group)
    _make_folder(path.parent, gid)
    with only_agent(path.with_name(path.name + ".lock"), f"socket {path}"):
        _remove_stale(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            with file_errors("bind", path):
                listener.bind(str(path))
                # Nobody can connect before `listen`, so that there is no open moment.
                path.chmod(0o660)
                os.chown(path, -1, gid)
            try:
                listener.listen(BACKLOG)
                yield listener
            finally:
                with suppress(FileNotFoundError):
                    path.unlink()


def _gid(group: str) -> int:
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise SiteAgentError(f"group {group!r} is not on this machine; make it first") from None


def _make_folder(folder: Path, gid: int) -> None:
    with file_errors("make", folder):
        try:
            folder.mkdir(mode=0o750, parents=True)
            folder.chmod(0o750)  # whatever the umask is
            os.chown(folder, -1, gid)
        except FileExistsError:
            if not folder.is_dir():
                raise
        found = folder.stat()
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o027:
        raise SiteAgentError(
            f"folder {folder} of the socket must be this user's own with mode 0750 or 0700, "
            f"got mode {stat.S_IMODE(found.st_mode):04o} of user {found.st_uid}; "
            "chmod it, or give another --socket"
        )


def _remove_stale(path: Path) -> None:
    with file_errors("replace", path):
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise SiteAgentError(f"{path} is there and is no socket; remove it, or give --socket")
        if _answers(path):
            raise SiteAgentError(f"another process listens on {path}; stop it, or give --socket")
        path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True

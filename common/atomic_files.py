"""Files that are whole or absent: a crash, a full disk or Ctrl-C leaves no half of one.

A file is written under a temporary name in its own folder, flushed to the disk and then
renamed over the old one. A log of JSON lines is appended line by line; what a crash cut
short at its end is ignored by the reader and removed by the next append.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.errors import RunFolderError

DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}
)
"""What a disk refuses because of its user or its state, not because of a fault of ours."""

_REMEDIES = {
    errno.ENOSPC: "free some space on that disk and run again",
    errno.EDQUOT: "free some of your quota on that disk and run again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run again",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder on a disk that is not read-only",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file, not a folder",
    errno.EEXIST: "check the path: there is a file of that name",
    errno.EISDIR: "check the path: it is a folder, not a file",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write `content` to `path`, as a whole or not at all.

    Args:
        path: the file.
        content: all of it.
        mode: its permissions, less what the process's umask takes away.

    Raises:
        RunFolderError: the file system refuses; `path` is as it was before.
    """
    temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.tmp")
    with file_errors("write", path):
        try:
            temporary.touch(mode, exist_ok=False)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed in the middle have left in `folder` and below.

    Only whoever is the folder's one writer may ask for it.

    Raises:
        RunFolderError: the file system refuses.
    """
    with file_errors("clear", folder):
        for left in folder.rglob(".*.tmp"):
            left.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, as a whole or not at all.

    Raises:
        RunFolderError: the file system refuses; `path` is as it was before.
    """
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write `content` to `path` as JSON, as a whole or not at all.

    Raises:
        RunFolderError: the file system refuses, or `content` is no strict JSON.
    """
    write_text(path, _to_json(path, content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON in `path`.

    Raises:
        RunFolderError: there is no such file, or no JSON in it.
    """
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        return json.loads(content)
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged: {error}; restore or remove it") from error


def append_json_lines(
    path: Path, records: Sequence[Mapping[str, object]], *, flushed: bool = True
) -> None:
    """Append `records` to the log at `path`, one JSON object a line: all of them or none.

    Args:
        path: the log.
        records: JSON objects.
        flushed: whether to wait until the disk has them, for the machine's own crash.

    Raises:
        RunFolderError: the file system refuses, or a record is no strict JSON; the log
            is as it was before.
    """
    lines = "".join(_to_json(path, record) + "\n" for record in records).encode("utf-8")
    with file_errors("append to", path):
        is_new = not path.exists()
        with path.open("ab", buffering=0) as file:
            whole = _length_of_whole_lines(path)
            try:
                file.truncate(whole)
                _write_all(file.fileno(), lines)
                if flushed:
                    os.fsync(file.fileno())
            except BaseException:
                with suppress(OSError):
                    file.truncate(whole)
                raise
        if is_new and flushed:
            _sync_folder(path.parent)


def replace_json_lines(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    """Write the log at `path` anew with `records`, as a whole or not at all.

    Raises:
        RunFolderError: the file system refuses; `path` is as it was before.
    """
    write_text(path, "".join(_to_json(path, record) + "\n" for record in records))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of the log at `path`; without a log there are none.

    A last line without its end was cut short by a crash and is ignored.

    Raises:
        RunFolderError: a whole line is no JSON object.
    """
    with file_errors("read", path):
        content = path.read_bytes() if path.exists() else b""
    records = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise RunFolderError(
                f"{path} is damaged: line {number} is no JSON object; restore or remove it"
            )
        records.append(record)
    return records


@contextmanager
def file_errors(verb: str, path: Path) -> Iterator[None]:
    """Turn what the file system refuses into one clear line with its remedy.

    Raises:
        RunFolderError: an `OSError` was raised inside.
    """
    try:
        yield
    except OSError as error:
        raise RunFolderError(os_error_line(f"cannot {verb} {path}", error)) from error


def os_error_line(what: str, error: OSError) -> str:
    """Return one line: what failed, why, and the remedy."""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    remedy = _REMEDIES.get(error.errno or 0, "check the disk and the path")
    return f"{what}: {reason}; {remedy}"


def _to_json(path: Path, content: object, indent: int | None = None) -> str:
    try:
        return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunFolderError(
            f"cannot write {path}: {error}; give plain, finite values, null where there is none"
        ) from error


def _write_all(descriptor: int, content: bytes) -> None:
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def _length_of_whole_lines(path: Path) -> int:
    """Return the length in bytes up to and with the last line end."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            line_end = file.read(position - start).rfind(b"\n")
            if line_end >= 0:
                return start + line_end + 1
            position = start
    return 0


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where folders can be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

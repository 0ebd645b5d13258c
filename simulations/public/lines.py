"""Text files of public data sets, line by line: plain or gzip, with one clear line of a fault."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar, cast

from common.errors import DataError

T = TypeVar("T")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not empty, without its end.

    Raises:
        DataError: The file cannot be read, or is not UTF-8.
    """
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                if text := line.rstrip("\r\n"):
                    yield number, text
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise DataError(
            f"{path}: cannot be read after line {number} ({reason}); fetch the file anew"
        ) from error


def parsed(path: Path, parse: Callable[[str], T], form: str) -> Iterator[T]:
    """`parse` of each line.

    Args:
        path: Plain text, or gzip where its name ends so.
        parse: Raises ValueError, KeyError or TypeError for a line that it cannot use.
        form: What a line should be, in words.

    Raises:
        DataError: The first line that `parse` refuses: file, line, what and remedy.
    """
    for number, line in numbered_lines(path):
        try:
            yield parse(line)
        except (ValueError, KeyError, TypeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"{path}: line {number} is wrong ({what[:120]}); expected {form}; correct or "
                "remove the line"
            ) from error


def fields(line: str, count: int, separator: str = "\t") -> list[str]:
    """The line's `count` fields.

    Raises:
        ValueError: It has another number of them.
    """
    found = line.split(separator)
    if len(found) != count:
        raise ValueError(f"{len(found)} fields")
    return found


def found_files(folder: Path, *names: str) -> list[Path]:
    """Files of one of these names (or patterns) in `folder` or one level below, sorted.

    Raises:
        DataError: There is none.
    """
    found = {path for name in names for where in ("", "*/") for path in folder.glob(where + name)}
    if not found:
        raise DataError(
            f"{folder}: has no {' or '.join(names)}; set data.folder to the unpacked data set, or "
            "leave it empty for a generated sample"
        )
    return sorted(found)


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return cast(IO[str], gzip.open(path, "rt", encoding="utf-8", newline="\n"))
    return path.open(encoding="utf-8", newline="\n")

"""What CSV and Parquet files have in common: faults that name no path and show no value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from common.atomic_files import os_error_line
from common.errors import DataError


@contextmanager
def readable(part: str, kind: str) -> Iterator[None]:
    """Turn what a file's reader raises into one line; its own words may show values.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        yield
    except OSError as error:
        plain = OSError(error.errno, error.strerror) if error.errno else OSError("unreadable")
        raise DataError(os_error_line(f"{part}: cannot read its file", plain)) from None
    except (pa.ArrowException, UnicodeError) as error:
        raise DataError(
            f"{part}: its file is no {kind} that can be read ({type(error).__name__}); "
            "write it anew"
        ) from None


def existing(part: str, folder: Path, file: str) -> Path:
    """The file that a section names.

    Raises:
        DataError: there is none.
    """
    path = folder / file
    if not path.is_file():
        raise DataError(f"{part}: its file does not exist; correct {part}.file in source.toml")
    return path


def check_names(part: str, names: Sequence[str], wanted: Sequence[str], *, shown: bool) -> None:
    """Refuse a table that lacks a column or has one twice.

    Args:
        part: for the message.
        names: the table's columns.
        wanted: those that are read.
        shown: whether the message may list `names`: the first line of a text file without a
            header holds values.

    Raises:
        DataError: names what is missing.
    """
    missing = [name for name in wanted if name not in names]
    if missing:
        has = f"it has {', '.join(names) or 'none'}" if shown else f"it has {len(names)} others"
        hint = "" if shown else " (is its first line the header?)"
        raise DataError(
            f"{part}: no column {', '.join(missing)}; {has}{hint}; correct [{part}] in source.toml"
        )
    repeated = [name for name in wanted if list(names).count(name) > 1]
    if repeated:
        raise DataError(f"{part}: column {repeated[0]} stands there twice; rename one of them")

"""A folder of raw tables, as the researcher has them: finding and reading each.

A folder holds ``interactions.*``, ``items.*`` and optionally ``users.*`` in any form that
`common.table_readers` reads. Where its columns have other names, ``columns.toml`` maps them::

    [interactions]
    user_id = "userId"
    [items]
    text = "title"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, overload

import pyarrow as pa

from common.errors import DataError
from common.table_readers import SUFFIXES, read_table

INTERACTIONS = "interactions"
TABLES = (INTERACTIONS, "items", "users")
COLUMNS_FILE = "columns.toml"


@overload
def read_folder_table(folder: Path, name: str) -> pa.Table: ...
@overload
def read_folder_table(
    folder: Path, name: str, *, is_optional: Literal[True]
) -> pa.Table | None: ...
def read_folder_table(folder: Path, name: str, *, is_optional: bool = False) -> pa.Table | None:
    """Reads one of `TABLES`; None where it is optional and not there.

    Raises:
        DataError: the table is missing, ambiguous, or cannot be read.
    """
    found = [path for s in SUFFIXES if (path := folder / f"{name}{s}").is_file()]
    if len(found) > 1:
        raise DataError(f"{folder}: holds {found[0].name} and {found[1].name}; keep one of them")
    if not found and not is_optional:
        kinds = ", ".join(SUFFIXES)
        raise DataError(f"{folder}: has no {name} table; add {name} with one of {kinds}")
    return read_table(found[0], columns=source_columns(folder, name)) if found else None


def source_columns(folder: Path, table: str) -> dict[str, str]:
    """Canonical name → the column's name in the folder's file, where they differ.

    Raises:
        DataError: ``columns.toml`` is damaged, or names a table that there is not.
    """
    path = folder / COLUMNS_FILE
    if not path.is_file():
        return {}
    try:
        mappings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); correct the TOML") from error
    for name, columns in mappings.items():
        fits = isinstance(columns, dict) and all(isinstance(v, str) for v in columns.values())
        if name not in TABLES or not fits:
            remedy = f"use sections {', '.join(TABLES)} of lines like user_id = 'userId'"
            raise DataError(f"{path}: cannot use {name!r}; {remedy}")
    return dict(mappings.get(table, {}))

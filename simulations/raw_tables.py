"""The raw tables of a public data set, with one digest over what they hold."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class RawTables:
    """The three raw tables of `common.interactions`."""

    interactions: pa.Table
    items: pa.Table
    users: pa.Table

    def sha256(self) -> str:
        """SHA-256 over names and values of all columns, in order."""
        digest = hashlib.sha256()
        for table in (self.interactions, self.items, self.users):
            rows = [table.column_names, *zip(*table.to_pydict().values(), strict=True)]
            for row in rows:
                digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        return digest.hexdigest()

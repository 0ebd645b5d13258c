"""Sites with a source of their own, full of canaries that must never be seen again."""

from __future__ import annotations

import csv
import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from client.begin_site import SitePlan, begin_site
from common.site_folder import SiteManifest, read_manifest

CANARY = "canary"
USERS, ITEMS = 12, 30
FIRST = 1_700_000_000
Rows = list[list[Any]]

CSV_SOURCE = """
[site]
name = "north"
declared_units = 20
[source]
kind = "csv"
[interactions]
file = "canary-orders.csv"
user_id = "customer"
item_id = "sku"
timestamp = "at"
rating = "stars"
[users]
file = "canary-people.csv"
user_id = "customer"
attributes = { gender = "sex" }
[items]
file = "goods.csv"
item_id = "sku"
text = "{title}. {brand}"
genres = "kinds"
"""
ORDERS, PEOPLE, GOODS = "canary-orders.csv", "canary-people.csv", "goods.csv"


def orders(rows: int = 200, seed: int = 0) -> Rows:
    """A header, and interactions of users whose names are canaries."""
    rng = random.Random(seed)
    return [
        ["customer", "sku", "at", "stars", "note"],
        *(
            [
                f"canary-user-{rng.randrange(USERS)}@example.org",
                f"g{rng.randrange(ITEMS)}",
                FIRST + rng.randrange(10**7),
                rng.randrange(1, 6),
                "canary note",
            ]
            for _ in range(rows)
        ),
    ]


def people() -> Rows:
    """A header, and every user's attributes."""
    return [
        ["customer", "sex"],
        *([f"canary-user-{n}@example.org", f"canary-sex-{n % 2}"] for n in range(USERS)),
    ]


def goods() -> Rows:
    """A header, and the public items."""
    return [
        ["sku", "title", "brand", "kinds"],
        *([f"g{n}", f'Thing "{n}", nice', f"Brand {n % 4}", f"a|b{n % 3}"] for n in range(ITEMS)),
    ]


def write_csv(path: Path, rows: Sequence[Sequence[Any]], encoding: str = "utf-8") -> None:
    """Rows as CSV, the header first."""
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)


def columns_of(rows: Rows) -> pa.Table:
    """Rows as an Arrow table, the header first."""
    return pa.table({name: [row[n] for row in rows[1:]] for n, name in enumerate(rows[0])})


def begun_site(tmp_path: Path, source: str) -> Path:
    """A site's folder in a path that is a canary, with this ``source.toml``."""
    folder = tmp_path / "canary-folder" / "site"
    begin_site(SitePlan(folder, "north", "csv", None, "fedrec", "fedrec-relay"))
    (folder / "source.toml").write_text(source, encoding="utf-8")
    return folder


def csv_site(tmp_path: Path, source: str = CSV_SOURCE) -> Path:
    """A site whose source is three CSV files."""
    folder = begun_site(tmp_path, source)
    write_csv(folder / ORDERS, orders())
    write_csv(folder / PEOPLE, people())
    write_csv(folder / GOODS, goods())
    return folder


def tables_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The site's tables as they stand, by name."""
    manifest = read_manifest(folder / "site.json", SiteManifest)
    return {
        path.stem: pq.read_table(path).to_pylist()
        for path in sorted((folder / manifest.tables).glob("*.parquet"))
    }


def snapshot(folder: Path) -> dict[str, str]:
    """Every file of the site's data and its manifest, by hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _data_files(folder)
    }


def _data_files(folder: Path) -> Iterator[Path]:
    for path in sorted((folder / "data").rglob("*")) if (folder / "data").exists() else ():
        if path.is_file():
            yield path
    if (folder / "site.json").exists():
        yield folder / "site.json"

"""Five sites as their operators make them: PostgreSQL, Parquet, SQLite and two of CSV files.

`fedrec-site init`, the ``source.toml`` that it made filled in, `fedrec-site refresh`. The users'
ids, their attributes and the folders' path are canaries, which must never be seen again.
"""

from __future__ import annotations

import csv
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from common.config import DataConfig
from common.interactions import Dataset
from common.site_folder import (
    MANIFEST_FILE,
    SITES_FILE,
    SiteManifest,
    SitesManifest,
    read_manifest,
    site_name,
    write_catalogue,
    write_manifest,
)
from simulations.user_partition import partition_users
from tests.deployment import fedrec_site
from tests.postgres_server import PASSWORD, USER, Postgres

NAMES = ("athens", "bergen", "cork", "derby", "essen")
USER_MARK = "canary-user-"
ATTRIBUTE_MARK = "canary-sex-"
FOLDER_MARK = "canary-folder"
INTERACTIONS = ("user_id", "item_id", "timestamp", "rating")
USERS = ("user_id", "gender")


class SiteRows(NamedTuple):
    """A site's own data: rows of `INTERACTIONS` and of `USERS`, and each user's item indices."""

    interactions: list[tuple[Any, ...]]
    users: list[tuple[str, str]]
    histories: dict[str, list[int]]


@dataclass(frozen=True)
class OperatorSites:
    """What was made.

    Attributes:
        folders: of the sites, in order.
        rows: what each site's source holds.
        said: what the commands printed.
    """

    folders: list[Path] = field(default_factory=list)
    rows: list[SiteRows] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def make_operator_sites(
    dataset: Dataset, config: DataConfig, folder: Path, postgres: Postgres
) -> OperatorSites:
    """The users of `dataset` at the five sites, each with another source.

    Args:
        dataset: whose users are dealt out.
        config: how they are dealt out.
        folder: for the sites' folders, which go into one that is a canary.
        postgres: for the first site's tables.
    """
    made = OperatorSites()
    for name, part, kind in zip(NAMES, partition_users(dataset, config), KINDS, strict=True):
        site, rows = folder / FOLDER_MARK / name, rows_of(dataset, part)
        fill, source = kind
        made.said.append(fedrec_site("init", "--site", site, "--name", name, "--source", source))
        write_catalogue(site / "items.parquet", dataset.catalogue)
        changes = {
            "declared_units = 0": f"declared_units = {len(part)}",
            '# rating = "rating"': 'rating = "rating"',
            'catalogue_sha256 = ""': f'catalogue_sha256 = "{dataset.catalogue.sha256}"',
            **fill(site, rows, postgres),
        }
        fill_in(site / "source.toml", changes)
        made.said.append(fedrec_site("refresh", "--site", site))
        made.folders.append(site)
        made.rows.append(rows)
    return made


def laboratory_of(sites: Sequence[Path], folder: Path) -> Path:
    """A federation folder for a simulation over exactly the tables that the sites refreshed.

    Keys, policies and ledgers stay behind: the simulated sites make their own.
    """
    names = tuple(map(site_name, range(len(sites))))
    for name, site in zip(names, sites, strict=True):
        copy = folder / name
        shutil.copytree(site / "data", copy / "data")
        manifest = read_manifest(site / MANIFEST_FILE, SiteManifest)
        write_manifest(copy / MANIFEST_FILE, manifest.model_copy(update={"simulated": True}))
    federation = SitesManifest(
        dataset=manifest.dataset, catalogue_sha256=manifest.catalogue_sha256, sites=names
    )
    write_manifest(folder / SITES_FILE, federation)
    return folder


def rows_of(dataset: Dataset, part: Sequence[int]) -> SiteRows:
    """The rows of these users, their ids and attributes made canaries."""
    events, items = dataset.interactions, dataset.catalogue.item_ids
    names = {int(user): f"{USER_MARK}{events.user_ids[user]}@example.org" for user in part}
    rows, histories = [], {name: [] for name in names.values()}
    columns = (events.user, events.item, events.timestamp, events.rating)
    for user, item, timestamp, rating in zip(*(each.tolist() for each in columns), strict=True):
        if user in names:
            rows.append((names[user], items[item], timestamp, rating))
            histories[names[user]].append(item)
    genders = dataset.users.attributes["gender"]
    people = [(name, ATTRIBUTE_MARK + genders[user]) for user, name in names.items()]
    return SiteRows(rows, people, histories)


def fill_in(path: Path, changes: dict[str, str]) -> None:
    """Edits the file that `init` made, as its comments say; also opens the users' section."""
    text = path.read_text(encoding="utf-8")
    head, users, tail = re.split(r"(?s)(# \[users\].*?\n)(?=\n)", text, maxsplit=1)
    text = head + re.sub(r"(?m)^# ", "", users) + tail
    for old, new in changes.items():
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def _postgres(site: Path, rows: SiteRows, postgres: Postgres) -> dict[str, str]:
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE interactions (user_id text, item_id text, created_at timestamptz, "
            "rating real); CREATE TABLE users (id text, sex text); "
            f"GRANT SELECT ON interactions, users TO {USER}"
        )
        cursor.executemany(
            "INSERT INTO interactions VALUES (%s, %s, to_timestamp(%s), %s)", rows.interactions
        )
        cursor.executemany("INSERT INTO users VALUES (%s, %s)", rows.users)
    password = site / "keys" / "database.password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    there = "postgresql+psycopg://USER@HOST:5432/DATABASE?sslmode=verify-full"
    return {there: postgres.url(), _ATTRIBUTES: 'attributes = { gender = "sex" }'}


def _sqlite(site: Path, rows: SiteRows, _: Postgres) -> dict[str, str]:
    with sqlite3.connect(site / "shop.db") as connection:
        connection.execute("CREATE TABLE interactions (user_id, item_id, created_at, rating)")
        connection.execute("CREATE TABLE users (id, sex)")
        connection.executemany("INSERT INTO interactions VALUES (?, ?, ?, ?)", rows.interactions)
        connection.executemany("INSERT INTO users VALUES (?, ?)", rows.users)
    connection.close()
    return {
        "postgresql+psycopg://USER@HOST:5432/DATABASE?sslmode=verify-full": "sqlite:///shop.db",
        'password_file = "keys/database.password"   #': "#",
        '"public.interactions"': '"interactions"',
        '"public.users"': '"users"',
        _ATTRIBUTES: 'attributes = { gender = "sex" }',
    }


def _parquet(site: Path, rows: SiteRows, _: Postgres) -> dict[str, str]:
    for name, columns, content in _tables(rows):
        table = pa.table(dict(zip(columns, zip(*content, strict=True), strict=True)))
        pq.write_table(table, site / f"{name}.parquet")
    return {_ATTRIBUTES: 'attributes = { gender = "gender" }'}


def _csv(site: Path, rows: SiteRows, _: Postgres) -> dict[str, str]:
    for name, columns, content in _tables(rows):
        with (site / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *content])
    return {_ATTRIBUTES: 'attributes = { gender = "gender" }'}


def _tables(rows: SiteRows) -> Iterator[tuple[str, tuple[str, ...], Sequence[tuple[Any, ...]]]]:
    yield "interactions", INTERACTIONS, rows.interactions
    yield "users", USERS, rows.users


_ATTRIBUTES = 'attributes = { gender = "sex", age = "age" }'
Fill = Callable[[Path, SiteRows, Postgres], dict[str, str]]
KINDS: tuple[tuple[Fill, str], ...] = (
    (_postgres, "sql"), (_parquet, "parquet"), (_sqlite, "sql"), (_csv, "csv"), (_csv, "csv"),
)  # fmt: skip

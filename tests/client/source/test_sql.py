"""Real databases: SQLite, and a PostgreSQL that is started, spoiled and killed."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from client import cli
from client.source.refresh import refresh_site
from common.errors import DataError
from tests.own_process import Command, in_own_process
from tests.postgres_server import PASSWORD, USER, Postgres, running_postgres
from tests.site_sources import (
    CANARY,
    FIRST,
    GOODS,
    ORDERS,
    PEOPLE,
    begun_site,
    csv_site,
    goods,
    orders,
    people,
    snapshot,
    tables_of,
)

PARTS = """
[interactions]
table = "{schema}orders"
user_id = "customer"
item_id = "sku"
timestamp = "at"
rating = "stars"
[users]
table = "{schema}people"
user_id = "customer"
attributes = {{ gender = "sex" }}
[items]
query = "SELECT * FROM {schema}goods -- all of them"
item_id = "sku"
text = "{{title}}. {{brand}}"
genres = "kinds"
"""


ALL = "SELECT * FROM shop.goods"


def source(url: str, options: str = "", schema: str = "") -> str:
    site = '[site]\nname = "north"\ndeclared_units = 20\n'
    return f'{site}[source]\nkind = "sql"\nurl = "{url}"\n{options}{PARTS.format(schema=schema)}'


@pytest.fixture
def fedrec_site(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_own_process(cli.main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        with server.connect() as connection:
            connection.execute(
                "CREATE SCHEMA shop;"
                "CREATE TABLE shop.orders (customer varchar(60), sku text, at timestamptz, "
                "stars numeric, note text);"
                "CREATE TABLE shop.people (customer text, sex text);"
                "CREATE TABLE shop.goods (sku text, title text, brand char(9), kinds text[]);"
                f"GRANT USAGE ON SCHEMA shop TO {USER};"
                f"GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {USER}"
            )
            fill(connection)
        yield server


def fill(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO shop.orders VALUES (%s, %s, to_timestamp(%s), %s, %s)", orders()[1:]
        )
        cursor.executemany("INSERT INTO shop.people VALUES (%s, %s)", people()[1:])
        cursor.executemany(
            "INSERT INTO shop.goods VALUES (%s, %s, %s, string_to_array(%s, '|'))", goods()[1:]
        )


def postgres_site(tmp_path: Path, server: Postgres, options: str = "") -> Path:
    folder = begun_site(
        tmp_path,
        source(server.url(), f'password_file = "keys/pw"\nbatch_rows = 7\n{options}', "shop."),
    )
    (folder / "keys" / "pw").write_text(PASSWORD + "\n")
    (folder / "keys" / "pw").chmod(0o600)
    return folder


def sqlite_site(tmp_path: Path, options: str = "") -> Path:
    folder = begun_site(tmp_path, source("sqlite:///canary.db", f"batch_rows = 7\n{options}"))
    with sqlite3.connect(folder / "canary.db") as connection:
        for name, rows in (("orders", orders()), ("people", people()), ("goods", goods())):
            connection.execute(f"CREATE TABLE {name} ({', '.join(map(str, rows[0]))})")
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows[1:])
    connection.close()
    return folder


@pytest.fixture(scope="module")
def from_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with the same data as CSV; not to be changed."""
    folder = csv_site(tmp_path_factory.mktemp("csv"))
    refresh_site(folder)
    assert {ORDERS, PEOPLE, GOODS} <= {path.name for path in folder.iterdir()}
    return folder


def share_key(folder: Path, other: Path) -> None:
    key = Path("keys") / "pseudonym.key"
    (folder / key).write_bytes((other / key).read_bytes())


def test_sqlite_gives_what_csv_gives(tmp_path: Path, from_csv: Path) -> None:
    folder = sqlite_site(tmp_path)
    share_key(folder, from_csv)
    before = (folder / "canary.db").read_bytes()
    refresh_site(folder)
    assert tables_of(folder) == tables_of(from_csv)
    assert (folder / "canary.db").read_bytes() == before


def test_postgres_gives_what_csv_gives(tmp_path: Path, postgres: Postgres, from_csv: Path) -> None:
    folder = postgres_site(tmp_path, postgres)
    share_key(folder, from_csv)
    refresh_site(folder)
    found, expected = tables_of(folder), tables_of(from_csv)
    assert found == expected


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE orders SET sku = NULL WHERE rowid = 9", "`sku` has no id in row 9"),
        ("UPDATE orders SET stars = 'canary' WHERE rowid = 9", "`stars` has type str where rows"),
        ("UPDATE orders SET note = CAST(x'ff' AS TEXT)", ""),
        ("UPDATE orders SET customer = CAST(x'63ff' AS TEXT) WHERE rowid = 9",
         "`customer` is not text in the database's encoding in row 9"),
        ("UPDATE orders SET customer = x'00' WHERE rowid = 9", "has type bytes where rows before"),
        ("UPDATE orders SET at = 1e18 WHERE rowid = 9", "`at` is too large"),
        ("ALTER TABLE orders RENAME COLUMN sku TO canary_sku", "no column sku; it has customer"),
        ("DROP TABLE orders", "there is no such table or column"),
        ("DELETE FROM orders", "no row is left"),
    ],
)  # fmt: skip
def test_faults_of_sqlite(statement: str, said: str, tmp_path: Path, fedrec_site: Command) -> None:
    folder = sqlite_site(tmp_path)
    connection = sqlite3.connect(folder / "canary.db")
    connection.executescript(statement)
    connection.close()
    code, _, err = fedrec_site("refresh", "--site", folder)
    assert code == (2 if said else 0)
    assert said in err
    assert CANARY not in err.replace("canary_sku", "")
    assert (err.count("\n") == 1) == bool(said)
    assert (folder / "site.json").exists() != bool(said)


def test_a_sqlite_file_that_is_none(tmp_path: Path, fedrec_site: Command) -> None:
    folder = sqlite_site(tmp_path)
    (folder / "canary.db").write_bytes(b"canary" * 999)
    assert "the file is no SQLite database" in fedrec_site("refresh", "--site", folder)[2]
    (folder / "canary.db").unlink()
    assert "the database's file does not exist" in fedrec_site("refresh", "--site", folder)[2]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("host=", "host=/canary-nowhere/", "the database cannot be reached"),
        ("reader@", "canary@", "cannot be reached, or did not let this user in"),
        ("@/postgres", "@/canary", "cannot be reached, or did not let this user in"),
        ("shop.orders", "shop.canary", "there is no such table or view (42P01)"),
        (ALL, "SELEC canary", "the query has a syntax error (42601)"),
        (ALL, "SELECT * FROM pg_authid", "this user may not read it (42501)"),
        (ALL, "SELECT title::int AS sku FROM shop.goods", "no column title"),
        (ALL, "SELECT title::int sku, title, brand, kinds FROM shop.goods",
         "a value cannot be converted as the statement asks (22P02)"),
        (ALL, "DROP TABLE shop.goods", "the query has a syntax error"),
    ],
)  # fmt: skip
def test_faults_of_postgres(
    old: str, new: str, said: str, tmp_path: Path, postgres: Postgres, fedrec_site: Command
) -> None:
    folder = postgres_site(tmp_path, postgres)
    text = (folder / "source.toml").read_text()
    assert old in text
    (folder / "source.toml").write_text(text.replace(old, new))
    code, out, err = fedrec_site("refresh", "--site", folder)
    assert (code, out) == (2, "")
    assert said in err
    assert CANARY not in err
    assert str(postgres.folder) not in err
    assert err.count("\n") == 1
    assert not (folder / "site.json").exists()


def test_a_wrong_password_is_not_shown(
    tmp_path: Path, postgres: Postgres, fedrec_site: Command
) -> None:
    folder = postgres_site(tmp_path, postgres)
    (folder / "keys" / "pw").write_text("canary-other")
    code, _, err = fedrec_site("refresh", "--site", folder)
    assert code == 2
    assert "did not let this user in" in err
    assert CANARY not in err


def test_types_and_times_of_postgres(tmp_path: Path, postgres: Postgres) -> None:
    """uuid, bigint, numeric, date and local times; LATIN1 and bytes that are no text."""
    folder = postgres_site(tmp_path, postgres, 'time_zone = "Europe/Berlin"\n')
    text = (folder / "source.toml").read_text()
    query = (
        "SELECT md5(customer)::uuid AS customer, sku, at AT TIME ZONE 'Europe/Berlin' AS at, "
        "5.5::float4 AS stars FROM shop.orders WHERE at <= now() -- ' : :x % %s"
    )
    text = text.replace('table = "shop.orders"', f'query = """{query}"""')
    (folder / "source.toml").write_text(text)
    refresh_site(folder)
    first = min(row["timestamp"] for row in tables_of(folder)["interactions"])
    assert first == min(row[2] for row in orders()[1:])
    assert {row["rating"] for row in tables_of(folder)["interactions"]} == {5.5}


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_encodings_of_postgres(encoding: str, tmp_path: Path, postgres: Postgres) -> None:
    name = f"base_{encoding.lower()}"
    with postgres.connect() as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        )
    with postgres.connect(name, client_encoding=encoding) as connection:
        connection.execute(
            "CREATE SCHEMA shop; CREATE TABLE shop.goods AS SELECT 'g' || n AS sku, "
            "convert_from('\\x4be47365', 'LATIN1') || n AS title, 'B' AS brand, 'k' AS kinds "
            "FROM generate_series(1, 9) AS n;"
            if encoding == "LATIN1"
            else "CREATE SCHEMA shop; CREATE TABLE shop.goods (sku text, title text, brand text, "
            "kinds text); INSERT INTO shop.goods SELECT 'g' || n, 'T', 'B', 'k' "
            "FROM generate_series(1, 9) AS n; "
            "UPDATE shop.goods SET title = E'K\\xe4se' WHERE sku = 'g3'"
        )
        connection.execute(
            "CREATE TABLE shop.orders AS SELECT 'u' || n AS customer, sku, now() AS at, 1 AS stars "
            "FROM shop.goods, generate_series(1, 3) AS n;"
            "CREATE TABLE shop.people AS SELECT 'u1' AS customer, 'x' AS sex;"
            f"GRANT USAGE ON SCHEMA shop TO {USER};"
            f"GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {USER}"
        )
    folder = postgres_site(tmp_path, postgres)
    text = (folder / "source.toml").read_text()
    (folder / "source.toml").write_text(text.replace("@/postgres", f"@/{name}"))
    if encoding == "LATIN1":
        refresh_site(folder)
        assert tables_of(folder)["items"][0]["text"] == "Käse1. B"
    else:
        with pytest.raises(DataError, match="items: it holds bytes that are no text in the dat"):
            refresh_site(folder)


def test_only_new_rows_are_read(tmp_path: Path, postgres: Postgres) -> None:
    """Late ones too, as late as the source says; what is later still needs a full read."""
    folder = postgres_site(tmp_path, postgres, "incremental = true\nlate_s = 3600.0\n")
    first = refresh_site(folder)
    with postgres.connect() as connection:
        new = [("canary-new", FIRST + 10**7 + 10**6), ("canary-late", first.written.newest - 3000),
               ("canary-too-late", FIRST)]  # fmt: skip
        connection.cursor().executemany(
            "INSERT INTO shop.orders VALUES (%s, 'g1', to_timestamp(%s), 1, '')", new
        )
    try:
        second = refresh_site(folder)
        assert second.rows_read < 30
        assert second.written.users == first.written.users + 2
        full = refresh_site(folder, full=True)
        assert full.rows_read == first.rows_read + 3
        assert full.written.users == first.written.users + 3
    finally:
        with postgres.connect() as connection:
            connection.execute("DELETE FROM shop.orders WHERE customer LIKE 'canary-%' "
                               "AND customer NOT LIKE 'canary-user%'")  # fmt: skip


def test_a_database_that_goes_away_while_it_is_read(tmp_path: Path) -> None:
    with running_postgres() as server:
        with server.connect() as connection:
            connection.execute(
                "CREATE SCHEMA shop; CREATE TABLE shop.orders AS SELECT 'canary-' || n AS customer,"
                " 'g' || n % 9 AS sku, now() AS at, 1 AS stars FROM generate_series(1, 3000) AS n;"
                "CREATE TABLE shop.goods AS SELECT 'g' || n AS sku, 'T' || n AS title, 'B' "
                "AS brand, 'k' AS kinds FROM generate_series(0, 8) AS n;"
                "CREATE TABLE shop.people AS SELECT 'u' AS customer, 'x' AS sex;"
                f"GRANT USAGE ON SCHEMA shop TO {USER};"
                f"GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {USER}"
            )
        folder = postgres_site(tmp_path, server, "")
        text = (folder / "source.toml").read_text()
        slow = "SELECT *, pg_sleep(0.005) AS pause FROM shop.orders"
        (folder / "source.toml").write_text(
            text.replace('table = "shop.orders"', f'query = "{slow}"')
        )
        before = snapshot(folder)
        with ThreadPoolExecutor(1) as pool:
            refreshing = pool.submit(refresh_site, folder)
            with server.connect() as connection:
                wait_for_reader(connection)
            time.sleep(0.2)  # some batches
            server.kill()
            with pytest.raises(DataError) as caught:
                refreshing.result(timeout=60)
    said = str(caught.value)
    assert said.startswith("interactions: the database went away while it was read")
    assert said.endswith("run again when it is back")
    assert CANARY not in said
    assert snapshot(folder) == before
    assert [path.name for path in (folder / "data").iterdir()] == []


def wait_for_reader(connection: Any) -> None:
    query = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}' AND wait_event = %s"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if connection.execute(query, ("PgSleep",)).fetchone()[0]:
            return
        time.sleep(0.02)
    raise AssertionError("nobody reads")


def test_a_writer_does_not_tear_what_is_read(tmp_path: Path, postgres: Postgres) -> None:
    """Users and interactions of one moment, while both change."""
    folder = postgres_site(tmp_path, postgres)
    stop = threading.Event()

    def write() -> None:
        with postgres.connect() as connection:
            while not stop.is_set():
                connection.execute(
                    "BEGIN; UPDATE shop.people SET sex = 'v' || pg_current_xact_id(); "
                    "UPDATE shop.orders SET sku = sku, note = ''; COMMIT"
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            refresh_site(folder)
            assert len({row["gender"] for row in tables_of(folder)["users"]}) == 1
    finally:
        stop.set()
        writer.join()

"""Databases, by SQLAlchemy: PostgreSQL (psycopg) and SQLite, read-only and in one snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from sqlalchemy import URL, Connection, create_engine, make_url
from sqlalchemy.pool import NullPool

from client.source.files import check_names
from client.source.password import read_password
from client.source.settings import Connection as Settings
from client.source.settings import InteractionsTable, ItemsTable, UsersTable
from client.source.sql_faults import database_faults
from client.source.sql_values import arrow_table
from common.errors import ConfigError, DataError

CONNECT_S = 10
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# Of PostgreSQL: date, timestamp, timestamptz; and the numbers.
_TIME_TYPES, _NUMBER_TYPES = {1082, 1114, 1184}, {20, 21, 23, 700, 701, 1700}
_CLOCK_CHANGE_S = 7200


@contextmanager
def open_database(
    settings: Settings, folder: Path, interactions: InteractionsTable
) -> Iterator[Database]:
    """The database, in one read-only transaction that sees one moment's data.

    Raises:
        ConfigError: the password is not there, or the address is none.
        DataError: the database cannot be reached, or does not let this user in.
    """
    url = _url(settings)
    password = read_password(settings, folder)
    if url.get_backend_name() == "sqlite":
        file = folder / (url.database or "")
        if not file.is_file():
            raise DataError("source: the database's file does not exist; correct source.url")
        engine = create_engine(
            "sqlite://", creator=lambda: _sqlite(file), poolclass=NullPool, hide_parameters=True
        )
    else:
        secret = url if password is None else url.set(password=password)
        engine = create_engine(
            secret,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_S, "client_encoding": "utf8", **_KEEPALIVE},
        )
    with database_faults("source", connecting=True), engine.connect() as connection:
        yield Database(_in_snapshot(connection, settings.time_zone), settings, interactions)


class Database:
    """The tables of an open database."""

    def __init__(
        self, connection: Connection, settings: Settings, interactions: InteractionsTable
    ) -> None:
        """Reads by `connection`, which is in its transaction."""
        self._connection, self._settings, self._interactions = connection, settings, interactions
        self._preparer = connection.dialect.identifier_preparer

    def tables(
        self,
        part: str,
        place: InteractionsTable | UsersTable | ItemsTable,
        *,
        since: int | None = None,
        limit: int | None = None,
    ) -> Iterator[pa.Table]:
        """See `client.source.reading.Source`."""
        with database_faults(part):
            types = self._types(part, place)
            check_names(part, list(types), place.columns, shown=True)
            statement = self._statement(place, place.columns)
            if since is not None:
                statement += self._condition(types, since)
            if limit is not None:
                statement += f" LIMIT {limit:d}"
            read = 0
            rows = self._settings.batch_rows
            with self._execute(statement, rows) as result:
                for values in result.partitions(rows):
                    yield arrow_table(part, place.columns, values, read)
                    read += len(values)

    def _types(
        self, part: str, place: InteractionsTable | UsersTable | ItemsTable
    ) -> dict[str, Any]:
        """The driver's type of every column that is there, also of those that are not read."""
        with self._execute(self._statement(place, ()) + " LIMIT 0", 1) as result:
            described = result.cursor.description
            names = [each[0] for each in described]
            if len(set(names)) < len(names):
                check_names(part, names, place.columns, shown=True)
            return {each[0]: each[1] for each in described}

    def _execute(self, statement: str, rows: int) -> Any:
        return self._connection.execution_options(
            no_parameters=True, stream_results=True, max_row_buffer=rows
        ).exec_driver_sql(statement)

    def _statement(
        self, place: InteractionsTable | UsersTable | ItemsTable, columns: Sequence[str]
    ) -> str:
        quoted = self._preparer.quote
        wanted = ", ".join(self._preparer.quote_identifier(name) for name in columns) or "*"
        if place.query:
            query = place.query.strip().rstrip(";")
            return f"SELECT {wanted} FROM ({query}\n) AS fedrec_source"
        return f"SELECT {wanted} FROM {'.'.join(quoted(each) for each in place.table.split('.'))}"

    def _condition(self, types: dict[str, Any], since: int) -> str:
        """Rows from `since` on, where the database can compare; else all of them are read.

        A local time that a clock change repeats is read as the later one by the database and
        as the earlier one by us, hence the margin; what is read twice is kept once.
        """
        column = self._preparer.quote_identifier(self._interactions.timestamp)
        start, form = since - _CLOCK_CHANGE_S, self._interactions.time_format
        scale = 1000 if form == "unix_ms" else 1
        kind = types[self._interactions.timestamp]
        if kind in _TIME_TYPES:
            moment = datetime.fromtimestamp(max(start, 0), UTC).isoformat()
            return f" WHERE {column} IS NULL OR {column} >= TIMESTAMPTZ '{moment}'"
        is_number = kind in _NUMBER_TYPES and form in ("auto", "unix", "unix_ms")
        if is_number or (kind is None and form in ("unix", "unix_ms")):
            compared = f"CAST({column} AS NUMERIC)" if kind is None else column
            return f" WHERE {column} IS NULL OR {compared} >= {start * scale:d}"
        return ""


def _url(settings: Settings) -> URL:
    try:
        url = make_url(settings.url)
    except Exception:  # noqa: BLE001  # its words hold the address
        raise ConfigError(["source.url is no address; correct it"]) from None
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _sqlite(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(file))}?mode=ro", uri=True, isolation_level=None, timeout=CONNECT_S
    )
    connection.text_factory = lambda value: value.decode("utf-8", "surrogateescape")
    return connection


def _in_snapshot(connection: Connection, zone: str) -> Connection:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
        return connection
    connection = connection.execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )
    # So that times without a zone are compared in the source's own; what comes back is UTC.
    name = zone.replace("'", "")
    connection.exec_driver_sql(f"SET TIME ZONE '{name}'")
    return connection

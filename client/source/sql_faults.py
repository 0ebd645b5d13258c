"""What a database says, in words of our own: its texts may hold values, names and addresses."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from common.errors import DataError

_GONE = ("the database went away while it was read", "run again when it is back")
_STATES = {
    "08": ("the connection broke", "check that the database runs and can be reached, run again"),
    "22021": (
        "it holds bytes that are no text in the database's encoding",
        "correct them at the source, or convert them in a query",
    ),
    "22P05": ("holds characters that UTF-8 cannot express", "cast them in a query"),
    "22": ("a value cannot be converted as the statement asks", "correct the query or the value"),
    "28": ("the database does not let this user in", "check the user, the password and pg_hba"),
    "3D": ("there is no such database", "correct source.url"),
    "3F": ("there is no such schema", "correct the table's name"),
    "40": ("the database cancelled the read, in conflict with another", "run again"),
    "42501": ("this user may not read it", "grant SELECT on it to this user"),
    "42601": ("the query has a syntax error", "correct the query"),
    "42703": ("there is no such column", "correct the columns"),
    "42P01": ("there is no such table or view", "correct the table's name"),
    "42": ("the statement does not fit the database", "correct the table, query or columns"),
    "53": ("the database has no resources left", "run again later"),
    "57014": ("the database cancelled the read, by its time limit", "raise statement_timeout"),
    "57P": _GONE,
    "57": _GONE,
    "58": ("the database has a fault of its own", "look into its log"),
    "XX": ("the database has a fault of its own", "look into its log"),
}
_SQLITE = {
    sqlite3.SQLITE_BUSY: ("the database is locked by a writer", "run again later"),
    sqlite3.SQLITE_CANTOPEN: ("the database's file cannot be opened", "check its permissions"),
    sqlite3.SQLITE_CORRUPT: ("the database's file is damaged", "restore it"),
    sqlite3.SQLITE_IOERR: ("the database's file cannot be read", "check the disk"),
    sqlite3.SQLITE_NOTADB: ("the file is no SQLite database", "correct source.url"),
    sqlite3.SQLITE_ERROR: (
        "there is no such table or column, or the query has a syntax error",
        "correct the table, query or columns",
    ),
}
_UNREACHED = (
    "the database cannot be reached, or did not let this user in",
    "check that it runs, its address in source.url, the user, the password and the network",
)


@contextmanager
def database_faults(part: str, *, connecting: bool = False) -> Iterator[None]:
    """Turn what the database or its driver raises into one line without their words.

    Args:
        part: for the message.
        connecting: whether the connection is still being made.

    Raises:
        DataError: says which sort of fault it was, and the remedy.
    """
    try:
        yield
    except (SQLAlchemyError, psycopg.Error, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        what, remedy = _words(cause, _UNREACHED if connecting else _GONE)
        code = getattr(cause, "sqlstate", None) or type(cause).__name__
        raise DataError(f"{part}: {what} ({code}); {remedy}") from None


def _words(error: BaseException, no_answer: tuple[str, str]) -> tuple[str, str]:
    state = getattr(error, "sqlstate", None)
    if state:
        for length in (5, 3, 2):
            if state[:length] in _STATES:
                return _STATES[state[:length]]
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return _SQLITE.get((code or 0) & 0xFF, ("the database cannot be read", "check its file"))
    if isinstance(error, psycopg.OperationalError):
        return no_answer
    return ("a value or a statement is not what the driver can read", "cast it in a query")

"""The database's password: from the environment or a private file, and never from the settings."""

from __future__ import annotations

import os
from pathlib import Path

from client.source.settings import Connection
from common.atomic_files import os_error_line
from common.errors import ConfigError


def read_password(connection: Connection, folder: Path) -> str | None:
    """The password that the settings point to; None where they name none.

    Args:
        connection: the section ``[source]``.
        folder: the site's, which a relative path begins at.

    Raises:
        ConfigError: it is not there, or others may read it.
    """
    if connection.password_env:
        found = os.environ.get(connection.password_env)
        if not found:
            raise ConfigError(
                ["source.password_env names a variable that is not set; set it and run again"]
            )
        return found
    if not connection.password_file:
        return None
    path = folder / connection.password_file
    try:
        with path.open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(4096)
    except OSError as error:
        raise ConfigError([os_error_line("cannot read source.password_file", error)]) from None
    if mode & 0o077:
        raise ConfigError(["source.password_file may be read by others; chmod 600 it"])
    try:
        password = content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(["source.password_file is not UTF-8 text; write it anew"]) from None
    if not password:
        raise ConfigError(["source.password_file is empty; write the password into it"])
    return password

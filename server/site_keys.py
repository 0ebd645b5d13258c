"""The public keys of the sites' nodes: files that say who may connect."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.atomic_files import file_errors
from common.errors import CertificateError


def read_node_key(path: Path) -> bytes:
    """The public key in an OpenSSH file, in the form in which Flower sends it (PEM).

    Raises:
        CertificateError: the file holds no key on a NIST curve.
        RunFolderError: it cannot be read.
    """
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        key = serialization.load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):  # a compressed point
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CertificateError(
            f"{path} holds no public EC key in OpenSSH's form; "
            "ask the site for the node.pub that `fedrec-site connect` made"
        )
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


class SiteKeys:
    """Which node keys are let in: those of the files in a folder, as they are now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[tuple[str, int], ...] | None = None
        self._keys: dict[bytes, str] = {}

    def site_of(self, public_key: bytes) -> str | None:
        """The site whose key this is, or None.

        Raises:
            CertificateError: a file in the folder holds no key.
            RunFolderError: the folder cannot be read.
        """
        with file_errors("read", self._folder):
            files = sorted(self._folder.glob("*.pub"))
            seen = tuple((file.name, file.stat().st_mtime_ns) for file in files)
        if seen != self._seen:
            self._keys = {read_node_key(file): file.stem for file in files}
            self._seen = seen
        return self._keys.get(public_key)

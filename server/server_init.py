"""``fedrec-server init``: from nothing to a folder from which a federation is run."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.app_staging import stage_app, write_run_config
from common.atomic_files import file_errors, write_bytes, write_text
from common.bundle_hash import sign_bundle
from common.config import RunConfig
from common.errors import CertificateError, ConfigError, EvidenceError
from common.key_file import load_key
from common.system_install import UNIT_FOLDER, give, make_user, root_faults, unit_faults
from server.certificates import check_chain, issue, make_authority, read_authority
from server.deployment_files import (
    LOOPBACK,
    SERVER_USER,
    compose_text,
    start_text,
    write_unit_texts,
)
from server.server_folder import CONNECTION, ServerFolder, ServerSettings

PUBLIC, PRIVATE = 0o644, 0o600

DEPLOYED = (
    "evaluation.every=0",
    "evaluation.metrics=none",
    "evaluation.companions=",
    "evaluation.lab=false",
)
"""What a run over partners' sites is not: there is no laboratory that sees their users."""


@dataclass(frozen=True)
class OwnCertificate:
    """A certificate that the operator brings.

    Attributes:
        certificate: the server's certificate, then what lies between it and the CA.
        key: its private key.
        ca: what the sites are to trust.
    """

    certificate: Path
    key: Path
    ca: Path


def init_server(
    path: Path,
    settings: ServerSettings,
    config: RunConfig,
    own: OwnCertificate | None,
    *,
    system: bool = False,
) -> str:
    """Makes the folder, whole or not at all.

    Args:
        path: of a folder that is not there, or empty.
        settings: name and ports.
        config: the run.
        own: the certificate for the gate; None: an authority of the folder's own signs one.
        system: as root, also make the server's user, give it the folder, install the units.

    Returns:
        The coordinator's public signing key, hex.

    Raises:
        ConfigError: the folder is in use.
        CertificateError: the certificate cannot be used.
        RunFolderError: the file system refuses.
    """
    path = path.absolute()
    units = write_unit_texts(ServerFolder(path), settings)
    if system and (faults := [*root_faults(), *unit_faults(UNIT_FOLDER, units)]):
        raise ConfigError(faults)
    if own is not None:
        check_chain(own.certificate, own.key, own.ca, settings.host)
    with file_errors("make", path):
        if path.exists() and any(path.iterdir()):
            raise ConfigError([f"{path} is not empty; init never overwrites, choose a new folder"])
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # mode 0700
    try:
        # The files name `path`, where the folder will be once all of it is there.
        final = ServerFolder(path)
        signer = _fill(ServerFolder(made), final, settings, config, own)
        start = start_text(final, settings, signer, installed=system)
        write_text(made / "START.md", start)
        with file_errors("make", path):
            os.rename(made, path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    if system:
        make_user(SERVER_USER)
        give(path, SERVER_USER)
        for name, text in units.items():
            write_text(UNIT_FOLDER / name, text)
    return signer


def renew_certificate(folder: ServerFolder, *, new_authority: bool = False) -> datetime:
    """Replaces the gate's certificate and key by new ones of the folder's own authority.

    Args:
        folder: the server's.
        new_authority: also replace the authority, which every site then has to be given.

    Returns:
        When the new one expires.

    Raises:
        ConfigError: the folder is no server's.
        CertificateError: the certificate came from outside, or the authority's key is damaged.
    """
    settings, key = folder.settings(), folder.tls / "ca.key"
    if not key.exists():
        raise CertificateError(
            f"{folder.tls} has no authority of its own; put your new certificate into server.crt "
            "and its key into server.key"
        )
    if new_authority:
        authority = make_authority(f"fedrec at {settings.host}")
        write_bytes(key, authority.key_pem(), mode=PRIVATE)
        write_bytes(folder.tls / "ca.crt", authority.certificate_pem(), mode=PUBLIC)
    server = issue(read_authority(folder.tls / "ca.crt", key), [settings.host])
    write_bytes(folder.tls / "server.key", server.key_pem(), mode=PRIVATE)
    write_bytes(folder.tls / "server.crt", server.certificate_pem(), mode=PUBLIC)
    return server.certificate.not_valid_after_utc


def _fill(
    made: ServerFolder,
    final: ServerFolder,
    settings: ServerSettings,
    config: RunConfig,
    own: OwnCertificate | None,
) -> str:
    for folder in (made.tls, made.sites, made.runs, made.database.parent, made.path / "systemd"):
        folder.mkdir(parents=True)
    _write_certificates(made, settings.host, own)
    write_run_config(made.run_file, config)
    made.app.parent.mkdir()
    stage_app(made.app.parent)
    seed = load_key(made.signing_key, "the coordinator's", EvidenceError, begin=True)
    sign_bundle(made.app, made.signing_key)
    signer = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
    made.flower_home.mkdir()
    write_text(made.flower_home / "config.toml", _flower_config(final, settings))
    for name, text in write_unit_texts(final, settings).items():
        write_text(made.path / "systemd" / name, text)
    write_text(made.path / "compose.yaml", compose_text(final, settings))
    made.write_settings(settings)
    return signer


def _write_certificates(folder: ServerFolder, host: str, own: OwnCertificate | None) -> None:
    """The local authority's key is not kept: nothing else is ever to be signed with it."""
    local = make_authority("fedrec, this machine only")
    superlink = issue(local, ["localhost", LOOPBACK], days=3650)
    files = {
        "local-ca.crt": (local.certificate_pem(), PUBLIC),
        "superlink.crt": (superlink.certificate_pem(), PUBLIC),
        "superlink.key": (superlink.key_pem(), PRIVATE),
    }
    if own is None:
        authority = make_authority(f"fedrec at {host}")
        server = issue(authority, [host])
        files |= {
            "ca.crt": (authority.certificate_pem(), PUBLIC),
            "ca.key": (authority.key_pem(), PRIVATE),
            "server.crt": (server.certificate_pem(), PUBLIC),
            "server.key": (server.key_pem(), PRIVATE),
        }
    else:
        for name, source, mode in (
            ("ca.crt", own.ca, PUBLIC),
            ("server.crt", own.certificate, PUBLIC),
            ("server.key", own.key, PRIVATE),
        ):
            with file_errors("read", source):
                files[name] = (source.read_bytes(), mode)
    for name, (content, mode) in files.items():
        write_bytes(folder.tls / name, content, mode=mode)


def _flower_config(folder: ServerFolder, settings: ServerSettings) -> str:
    """Flower's own configuration file; it leads `flwr` to the SuperLink beside it."""
    return f"""\
[superlink]
default = "{CONNECTION}"

[superlink.{CONNECTION}]
address = "{LOOPBACK}:{settings.superlink_port}"
root-certificates = "{folder.tls / "local-ca.crt"}"
"""

"""``connection.toml``: how a site reaches its coordinator, and as whom.

The node's key pair and the CA lie in a folder of their own, which the SuperNode's user may
read; the site's folder stays closed to it.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal, NamedTuple

import tomli_w
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.atomic_files import file_errors, write_bytes, write_text
from common.errors import CertificateError, ConfigError
from common.logs import JSON_LOG
from common.process_environment import QUIET_ENVIRONMENT, installed_script, path_of_scripts
from common.system_install import home_of
from common.toml_settings import read_settings
from common.unit_hardening import WITHOUT_DEVICES

CONNECTION_FILE = "connection.toml"
NODE_FOLDER = "node"
SUPERNODE_UNIT = "fedrec-supernode.service"
SUPERNODE_PORT = 9098
"""On this machine alone, for the ClientApps; Flower's own 9094 is the coordinator's health."""
RELAY_USER = "fedrec-relay"
_ADDRESS = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$"


class Connection(BaseModel):
    """``connection.toml``.

    Attributes:
        superlink: ``host:port`` of the coordinator, as its certificate names it.
        ca: file of the certificates that are trusted.
        node_key: file of the node's private key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    superlink: str = Field(pattern=_ADDRESS, description="host:port")
    ca: str = Field(min_length=1)
    node_key: str = Field(min_length=1)

    @property
    def host(self) -> str:
        """The coordinator's name or address."""
        return self.superlink.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.superlink.rpartition(":")[2])


class PlannedConnection(NamedTuple):
    """A connection that can be made; nothing has been written yet.

    Attributes:
        connection: what ``connection.toml`` will say.
        trusted: PEM certificates of the coordinator's authority.
        folder: for what the SuperNode reads.
    """

    connection: Connection
    trusted: bytes
    folder: Path


def plan_connection(site: Path, superlink: str, ca: Path, folder: Path | None) -> PlannedConnection:
    """Checks what a connection is to be made of.

    Args:
        site: the site's folder.
        superlink: ``host:port`` of the coordinator.
        ca: file that the coordinator gave.
        folder: for what the SuperNode reads; None: ``node`` in the site's folder.

    Raises:
        ConfigError: the address is none, or the site is connected already.
        CertificateError: `ca` holds no certificate.
        RunFolderError: `ca` cannot be read.
    """
    site, folder = site.absolute(), (folder or site / NODE_FOLDER).absolute()
    files = [site / CONNECTION_FILE, folder / "node.key", folder / "node.pub", folder / "ca.crt"]
    connection = _connection(superlink, str(files[3]), str(files[1]))
    for path in files:
        if path.exists():
            raise ConfigError([f"{path} is there already, and is never overwritten; remove it"])
    return PlannedConnection(connection, _read_ca(ca), folder)


def make_connection(site: Path, planned: PlannedConnection) -> Path:
    """Writes the node's key pair, the CA and, last, ``connection.toml``.

    Returns:
        The file of the node's public key, for the coordinator.

    Raises:
        RunFolderError: the file system refuses.
    """
    folder = planned.folder
    with file_errors("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    public = _write_node_key(Path(planned.connection.node_key))
    write_bytes(folder / "ca.crt", planned.trusted)
    write_text(site.absolute() / CONNECTION_FILE, tomli_w.dumps(planned.connection.model_dump()))
    return public


def renew_connection(site: Path, superlink: str | None, ca: Path | None) -> Path:
    """Replaces the node's key pair, and what else is given; the coordinator must hear of it.

    Args:
        site: the site's folder.
        superlink: a new ``host:port``; None: the old one.
        ca: a new file of trusted certificates; None: the old one.

    Returns:
        The file of the new public key.

    Raises:
        ConfigError: the site is not connected, or the address is none.
        CertificateError: `ca` holds no certificate.
        RunFolderError: the file system refuses.
    """
    connection = read_connection(site)
    if connection is None:
        raise ConfigError([f"{site} is not connected yet; leave --renew out"])
    if superlink is not None:
        connection = _connection(superlink, connection.ca, connection.node_key)
    trusted = None if ca is None else _read_ca(ca)
    public = _write_node_key(Path(connection.node_key))
    if trusted is not None:
        write_bytes(Path(connection.ca), trusted)
    write_text(site.absolute() / CONNECTION_FILE, tomli_w.dumps(connection.model_dump()))
    return public


def _connection(superlink: str, ca: str, node_key: str) -> Connection:
    try:
        return Connection(superlink=superlink, ca=ca, node_key=node_key)
    except ValidationError:
        raise ConfigError(
            [f"--superlink {superlink!a} is no host:port; give it as the coordinator did"]
        ) from None


def _write_node_key(path: Path) -> Path:
    """A new key pair; the private half, then the public one beside it, whose file is returned."""
    key = ec.generate_private_key(ec.SECP384R1())
    openssh = serialization.Encoding.OpenSSH
    public = key.public_key().public_bytes(openssh, serialization.PublicFormat.OpenSSH)
    # PEM around OpenSSH's format is what the SuperNode reads.
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    write_bytes(path, private, mode=0o600)
    write_bytes(path.with_suffix(".pub"), public + b"\n")
    return path.with_suffix(".pub")


def read_connection(site: Path) -> Connection | None:
    """The site's connection, or None where it has none yet.

    Raises:
        ConfigError: with all faults of the file.
    """
    path = site / CONNECTION_FILE
    if not path.is_file():
        return None
    return read_settings(path, Connection)


def load_node_key(connection: Connection) -> ec.EllipticCurvePrivateKey:
    """The node's private key.

    Raises:
        CertificateError: the file holds none.
        RunFolderError: it cannot be read.
    """
    path = Path(connection.node_key)
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        key = serialization.load_ssh_private_key(content, None)
    except (ValueError, UnsupportedAlgorithm, NotImplementedError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} holds no EC key of OpenSSH; make it anew with connect")
    return key


def supernode_command(connection: Connection, socket: Path) -> list[str]:
    """Flower's SuperNode for this site; its bundle talks to the agent on `socket`."""
    name = "flower-supernode"
    return [
        installed_script(name) or name,
        *("--port", str(SUPERNODE_PORT)),
        *("--superlink", connection.superlink),
        *("--root-certificates", connection.ca),
        *("--auth-supernode-private-key", connection.node_key),
        *("--node-config", f'agent-socket="{socket}"'),
    ]


def supernode_unit(connection: Connection, socket: Path, site: Path, user: str = RELAY_USER) -> str:
    """The SuperNode's systemd unit, run by `user`.

    A killed SuperNode is taken back by the SuperLink only after its last heartbeat has run
    out (a minute), so the unit tries for ever.
    """
    command = shlex.join(supernode_command(connection, socket))
    # Where its own files lie in the site's folder, closing that would shut it out, too.
    is_apart = not Path(connection.node_key).is_relative_to(site)
    closed = f"InaccessiblePaths={site}\n" if is_apart else ""
    environment = {"PATH": path_of_scripts(), **QUIET_ENVIRONMENT, **JSON_LOG}
    quiet = "".join(f'Environment="{name}={v}"\n' for name, v in environment.items())
    return f"""\
[Unit]
Description=Flower SuperNode of fedrec
After=network-online.target
StartLimitIntervalSec=0

[Service]
User={user}
Group={user}
Environment=FLWR_HOME={home_of(user)}/flwr
{quiet}ExecStart={command}
Restart=always
RestartSec=15
{WITHOUT_DEVICES}
ProtectHome=yes
ReadWritePaths={home_of(user)}
{closed}
[Install]
WantedBy=multi-user.target
"""


def _read_ca(path: Path) -> bytes:
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise CertificateError(
            f"{path} holds no PEM certificate; ask the coordinator for its ca.crt"
        ) from error
    return content

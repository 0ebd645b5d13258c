"""``connection.toml``: how a site reaches its coordinator, and as whom.

The node's key pair and the CA lie in a folder of their own, which the SuperNode's user may
read; the site's folder stays closed to it.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Literal

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.atomic_files import file_errors, write_bytes, write_text
from common.errors import CertificateError, ConfigError
from common.process_environment import QUIET_ENVIRONMENT
from common.toml_settings import read_settings

CONNECTION_FILE = "connection.toml"
NODE_FOLDER = "node"
SUPERNODE_UNIT = "fedrec-supernode.service"
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


def make_connection(site: Path, superlink: str, ca: Path, folder: Path | None) -> Path:
    """Writes ``connection.toml``, the node's key pair, the CA and the SuperNode's unit.

    Args:
        site: the site's folder.
        superlink: ``host:port`` of the coordinator.
        ca: file that the coordinator gave.
        folder: for what the SuperNode reads; None: ``node`` in the site's folder.

    Returns:
        The file of the node's public key, for the coordinator.

    Raises:
        ConfigError: the address is none, or the site is connected already.
        CertificateError: `ca` holds no certificate.
        RunFolderError: the file system refuses.
    """
    site, folder = site.absolute(), (folder or site / NODE_FOLDER).absolute()
    files = [site / CONNECTION_FILE, folder / "node.key", folder / "node.pub", folder / "ca.crt"]
    try:
        connection = Connection(superlink=superlink, ca=str(files[3]), node_key=str(files[1]))
    except ValidationError:
        raise ConfigError(
            [f"--superlink {superlink!a} is no host:port; give it as the coordinator did"]
        ) from None
    for path in files:
        if path.exists():
            raise ConfigError([f"{path} is there already; connect never overwrites, remove it"])
    trusted = _read_ca(ca)
    with file_errors("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP384R1())
    openssh = serialization.Encoding.OpenSSH
    public = key.public_key().public_bytes(openssh, serialization.PublicFormat.OpenSSH)
    # PEM around OpenSSH's format is what the SuperNode reads.
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    write_bytes(folder / "node.key", private, mode=0o600)
    write_bytes(folder / "node.pub", public + b"\n")
    write_bytes(folder / "ca.crt", trusted)
    write_text(site / CONNECTION_FILE, tomli_w.dumps(connection.model_dump()))
    return folder / "node.pub"


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
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} holds no EC key of OpenSSH; make it anew with connect")
    return key


def supernode_command(connection: Connection, socket: Path) -> list[str]:
    """Flower's SuperNode for this site; its bundle talks to the agent on `socket`."""
    script = Path(sys.executable).parent / "flower-supernode"
    return [
        *(str(script if script.is_file() else shutil.which(script.name) or script.name),),
        *("--superlink", connection.superlink),
        *("--root-certificates", connection.ca),
        *("--auth-supernode-private-key", connection.node_key),
        *("--node-config", f'agent-socket="{socket}"'),
    ]


def supernode_unit(connection: Connection, socket: Path, site: Path) -> str:
    """The SuperNode's systemd unit.

    A killed SuperNode is taken back by the SuperLink only after its last heartbeat has run
    out (a minute), so the unit tries for ever.
    """
    command = shlex.join(supernode_command(connection, socket))
    quiet = "".join(f'Environment="{name}={v}"\n' for name, v in QUIET_ENVIRONMENT.items())
    return f"""\
[Unit]
Description=Flower SuperNode of fedrec
After=network-online.target
StartLimitIntervalSec=0

[Service]
User=fedrec-relay
Group=fedrec-relay
Environment=FLWR_HOME=/var/lib/fedrec-relay/flwr
{quiet}ExecStart={command}
Restart=always
RestartSec=15
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ReadWritePaths=/var/lib/fedrec-relay
InaccessiblePaths={site}

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

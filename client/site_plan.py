"""What `fedrec-site init` is asked for, and every reason why it cannot be done."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

from client.connection import (
    RELAY_USER,
    Connection,
    PlannedConnection,
    plan_connection,
    supernode_unit,
)
from client.resident.socket_file import default_socket
from client.site_ledger import LEDGER_FILE
from client.source.settings import Kind
from client.source.settings_file import SOURCE_FILE
from common.errors import ConfigError
from common.process_environment import installed_script
from common.site_folder import MANIFEST_FILE
from common.system_install import UNIT_FOLDER, root_faults

UNITS_FOLDER = "systemd"
SYSTEM_NODE = Path("/etc/fedrec/node")
RUNTIME_FOLDER = Path("/run/fedrec")
"""RuntimeDirectory of the agent's unit."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SIGNER = re.compile(r"[0-9a-f]{64}")


class SitePlan(NamedTuple):
    """What `client.begin_site.begin_site` is asked for.

    Attributes:
        folder: the site's.
        name: its public name.
        kind: csv, parquet or sql.
        out: folder for the unit files; None: ``systemd`` in the site's folder, or the system's.
        user: the agent's.
        relay_user: the SuperNode's.
        superlink: ``host:port`` of the coordinator; None: `fedrec-site connect` comes later.
        ca: file of its certificates.
        node_folder: for what the SuperNode reads; None: ``node`` in the site's folder, or
            `SYSTEM_NODE`.
        signer: the coordinator's public signing key, for the policy's ``code_signers``.
        system: make both users, install the units and give the users their folders.
    """

    folder: Path
    name: str
    kind: str = "sql"
    out: Path | None = None
    user: str = "fedrec"
    relay_user: str = RELAY_USER
    superlink: str | None = None
    ca: Path | None = None
    node_folder: Path | None = None
    signer: str | None = None
    system: bool = False

    @property
    def units(self) -> Path:
        """Where the unit files go."""
        if self.out is not None:
            return self.out.absolute()
        return UNIT_FOLDER if self.system else self.folder.absolute() / UNITS_FOLDER

    @property
    def node(self) -> Path | None:
        """Where the SuperNode's files go; None: the default of `plan_connection`."""
        return self.node_folder or (SYSTEM_NODE if self.system else None)

    def supernode_unit(self, connection: Connection) -> str:
        """The SuperNode's unit; the agent's own listens in its runtime directory."""
        socket = RUNTIME_FOLDER / default_socket(self.name).name
        return supernode_unit(connection, socket, self.folder.absolute(), self.relay_user)


def checked(plan: SitePlan) -> PlannedConnection | None:
    """The plan's connection, if it has one; nothing has been made yet.

    Raises:
        ConfigError: with every fault of the options, or the site was begun before.
        CertificateError: `ca` holds no certificate.
        RunFolderError: `ca` cannot be read.
    """
    faults = [*_option_faults(plan), *_place_faults(plan)]
    connection = None
    if plan.superlink is not None and plan.ca is not None:
        try:
            connection = plan_connection(plan.folder, plan.superlink, plan.ca, plan.node)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return connection


def installed_program() -> str:
    """The installed command, beside the interpreter that runs it."""
    name = "fedrec-site"
    return installed_script(name) or str(Path(sys.executable).with_name(name))


def _option_faults(plan: SitePlan) -> Iterator[str]:
    if not _NAME.fullmatch(plan.name):
        yield (
            f"--name must be 1 to 40 letters, digits, dots, dashes or underscores, got "
            f"{plan.name!a}; choose another"
        )
    if plan.kind not in get_args(Kind):
        yield f"--source must be csv, parquet or sql, got {plan.kind!a}; choose one"
    for option, user in (("--user", plan.user), ("--relay-user", plan.relay_user)):
        if not _USER.fullmatch(user):
            yield f"{option} must be the name of a user, got {user!a}; correct it"
    if plan.user == plan.relay_user:
        yield (
            f"--user and --relay-user are both {plan.user!a}; give the SuperNode a user of its "
            "own, or it could read the site's data"
        )
    if (plan.superlink is None) != (plan.ca is None):
        yield "--superlink and --ca go together; give both, or connect later"
    if plan.signer is not None and not _SIGNER.fullmatch(plan.signer):
        yield f"--signer must be 64 hexadecimal digits, got {plan.signer!a}; copy it whole"


def _place_faults(plan: SitePlan) -> Iterator[str]:
    folder = plan.folder.absolute()
    if re.search(r"[\s%$\"'\\]", f"{folder}{plan.units}{plan.node}{installed_program()}"):
        yield (
            "--site, --out, --node-folder and the installed program must have paths without "
            "blanks, quotes, % and $, which unit files cannot hold; choose another folder"
        )
    if plan.system:
        yield from root_faults()
    for name in (SOURCE_FILE, MANIFEST_FILE, LEDGER_FILE):
        if (folder / name).exists():
            yield (
                f"{folder} is a site already ({name} is there), and init never overwrites; go on "
                "with `fedrec-site check`, or choose another folder"
            )
            break

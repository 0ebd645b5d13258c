"""``fedrec-site init``: a site's folder, its keys, files to fill in, and its way to the server."""

from __future__ import annotations

import pwd
import shlex
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple

from client.connection import SUPERNODE_UNIT, make_connection, supernode_command
from client.policy_file import POLICY_FILE
from client.resident.socket_file import default_socket
from client.serving.feedback import SERVING_FOLDER
from client.site_identity import load_identity
from client.site_ledger import KEYS_FOLDER
from client.site_plan import SitePlan, checked, installed_program
from client.source.pseudonyms import load_pseudonyms
from client.source.settings_file import SOURCE_FILE
from common.atomic_files import file_errors, write_bytes
from common.errors import ConfigError
from common.system_install import give, home_of, join_group, make_user, unit_faults
from common.unit_hardening import HARDENING, WITHOUT_DEVICES

_NO_SIGNERS = '# code_signers = ["…"]'
UNITS = (
    "fedrec-site.service",
    "fedrec-refresh.service",
    "fedrec-refresh.timer",
    "fedrec-monitor.service",
    "fedrec-serve.service",
)


class Begun(NamedTuple):
    """What was made; the keys are public ones."""

    site: str
    folder: Path
    identity: str
    units: Path
    node_public_key: Path | None
    supernode: str | None
    run_as: str | None

    def lines(self) -> list[str]:
        """What to do next."""
        who = "" if self.run_as is None else f"sudo -u {self.run_as} "
        lines = [
            f"site {self.site} begun in {self.folder}; next:",
            f"  1. fill in {self.folder / SOURCE_FILE}, and read {self.folder / POLICY_FILE}",
            f"  2. {who}fedrec-site check --site {self.folder}",
        ]
        if self.run_as is None:
            lines += [
                f"  3. fedrec-site run --site {self.folder}    (reads the data at its first start)",
                *([] if self.supernode is None else ["     and beside it:", f"  {self.supernode}"]),
                "for good, by systemd: begin as root with --system; or make the users and their "
                f"folders yourself, and cp {self.units}/fedrec-* /etc/systemd/system/",
            ]
        else:
            node = "" if self.node_public_key is None else " fedrec-supernode.service"
            lines.append(
                f"  3. systemctl enable --now fedrec-site.service{node} fedrec-refresh.timer "
                "fedrec-monitor.service"
            )
            lines.append(
                "  later, with an adapter installed: systemctl enable --now fedrec-serve.service"
            )
        if self.node_public_key is not None:
            lines += ["for the coordinator, who runs add-site:", f"  {self.node_public_key}"]
        return [
            *lines,
            f"keep a copy of {self.folder / KEYS_FOLDER} in a safe place: without it neither the "
            "ledger nor the pseudonyms can go on",
            "your line for the other sites' policy.toml, under [peers], on a way that the "
            "coordinator does not control:",
            f'  "{self.site}" = "{self.identity}"',
        ]


def begin_site(plan: SitePlan) -> Begun:
    """Make a site's folder; what is there already stays as it is.

    ``source.toml`` comes last, so that an `init` that was cut short can be run again. With
    `SitePlan.system` this is root's one command: both users, their folders, the units.

    Raises:
        ConfigError: an option is wrong, or the site was begun before.
        CertificateError: the CA's file holds no certificate.
        LedgerError: a key that is there is damaged or readable by others.
        RunFolderError: the file system refuses.
    """
    connection = checked(plan)
    if plan.system:
        for user in (plan.user, plan.relay_user):
            make_user(user)
        join_group(plan.user, plan.relay_user)  # so that the agent can give its socket away
    folder, units, words = plan.folder.absolute(), plan.units, _words(plan)
    texts: Mapping[str, str] = {name: _filled(name, words) for name in UNITS}
    if connection is not None:
        texts = {**texts, SUPERNODE_UNIT: plan.supernode_unit(connection.connection)}
    if faults := unit_faults(units, texts):
        raise ConfigError(faults)
    with file_errors("make", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        units.mkdir(parents=True, exist_ok=True)
        (folder / SERVING_FOLDER).mkdir(mode=0o700, exist_ok=True)
    identity = load_identity(folder / KEYS_FOLDER)
    load_pseudonyms(folder / KEYS_FOLDER, begin=True)
    _write_new(folder / POLICY_FILE, _filled(POLICY_FILE, words), 0o600)
    for name, text in texts.items():
        _write_new(units / name, text, 0o644)
    public = None if connection is None else make_connection(folder, connection)
    parts = ("source-head.toml", f"source-{plan.kind}.toml", "source-tail.toml")
    _write_new(folder / SOURCE_FILE, "".join(_filled(part, words) for part in parts), 0o600)
    if plan.system:
        give(folder, plan.user)
        if public is not None:
            give(public.parent, plan.relay_user)
    supernode = None
    if connection is not None:
        socket = default_socket(plan.name).absolute()
        supernode = shlex.join(supernode_command(connection.connection, socket))
    run_as = plan.user if plan.system else None
    return Begun(plan.name, folder, identity.public_key, units, public, supernode, run_as)


def _words(plan: SitePlan) -> dict[str, str]:
    folder, state = plan.folder.absolute(), home_of(plan.user)
    try:
        pwd.getpwnam(plan.relay_user)
        relay = f'relay_users = ["{plan.relay_user}"]'
    except KeyError:
        relay = f'# (Uncomment it when that user exists.)\n# relay_users = ["{plan.relay_user}"]'
    below_home = folder.is_relative_to("/home") or folder.is_relative_to("/root")
    # By hand, too, the agent's ledger must find the anchor that its unit wrote.
    anchor = f'anchor = "{state}/anchors/{plan.name}.jsonl"'
    return {
        "name": plan.name,
        "site": str(folder),
        "program": installed_program(),
        "user": plan.user,
        "state": str(state),
        "relay_user": plan.relay_user,
        "relay_users": relay,
        "code_signers": f'code_signers = ["{plan.signer}"]' if plan.signer else _NO_SIGNERS,
        "anchor": anchor if plan.system else f'# anchor = "/mnt/other/{plan.name}.anchor"',
        "hardening": HARDENING,
        "hardening_without_devices": WITHOUT_DEVICES,
        # A site's folder below /home must stay visible to its own agent.
        "protect_home": "read-only" if below_home else "yes",
    }


def _filled(name: str, words: dict[str, str]) -> str:
    text = (files("client") / "templates" / name).read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _write_new(path: Path, text: str, mode: int) -> None:
    if not path.exists():
        write_bytes(path, text.encode("utf-8"), mode=mode)

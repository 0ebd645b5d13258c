"""``fedrec-site init``: a site's folder, its keys, and files to fill in."""

from __future__ import annotations

import pwd
import re
import shutil
import sys
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple, get_args

from client.policy_file import POLICY_FILE
from client.site_identity import load_identity
from client.site_ledger import KEYS_FOLDER, LEDGER_FILE
from client.source.pseudonyms import load_pseudonyms
from client.source.settings import Kind
from client.source.settings_file import SOURCE_FILE
from common.atomic_files import file_errors, write_bytes
from common.errors import ConfigError
from common.site_folder import MANIFEST_FILE

UNITS = ("fedrec-site.service", "fedrec-refresh.service", "fedrec-refresh.timer")
UNITS_FOLDER = "systemd"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


class SitePlan(NamedTuple):
    """What `begin_site` is asked for.

    Attributes:
        folder: the site's.
        name: its public name.
        kind: csv, parquet or sql.
        units: folder for the unit files; None: ``systemd`` in the site's folder.
        user: the agent's.
        relay_user: the SuperNode's.
    """

    folder: Path
    name: str
    kind: str
    units: Path | None
    user: str
    relay_user: str


class Begun(NamedTuple):
    """What was made; the identity is public."""

    site: str
    folder: Path
    identity: str
    units: Path

    def lines(self) -> list[str]:
        """What to do next."""
        return [
            f"site {self.site} begun in {self.folder}; next:",
            f"  1. fill in {self.folder / SOURCE_FILE}, and read {self.folder / POLICY_FILE}",
            f"  2. fedrec-site check --site {self.folder}",
            f"  3. fedrec-site run --site {self.folder}    (reads the data at its first start)",
            f"for good, by systemd: cp {self.units}/fedrec-* /etc/systemd/system/",
            f"keep a copy of {self.folder / KEYS_FOLDER} in a safe place: without it neither the "
            "ledger nor the pseudonyms can go on",
            "your line for the other sites' policy.toml, under [peers], on a way that the "
            "coordinator does not control:",
            f'  "{self.site}" = "{self.identity}"',
        ]


def begin_site(plan: SitePlan) -> Begun:
    """Make a site's folder; what is there already stays as it is.

    ``source.toml`` comes last, so that an `init` that was cut short can be run again.

    Raises:
        ConfigError: an option is wrong, or the site was begun before.
        LedgerError: a key that is there is damaged or readable by others.
        RunFolderError: the file system refuses.
    """
    folder = plan.folder.absolute()
    units = (plan.units or folder / UNITS_FOLDER).absolute()
    _check(plan, folder, units)
    with file_errors("make", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        units.mkdir(parents=True, exist_ok=True)
    identity = load_identity(folder / KEYS_FOLDER)
    load_pseudonyms(folder / KEYS_FOLDER, begin=True)
    words = _words(plan, folder)
    _write_new(folder / POLICY_FILE, _filled(POLICY_FILE, words), 0o600)
    for name in UNITS:
        _write_new(units / name, _filled(name, words), 0o644)
    parts = ("source-head.toml", f"source-{plan.kind}.toml", "source-tail.toml")
    source = "".join(_filled(part, words) for part in parts)
    _write_new(folder / SOURCE_FILE, source, 0o600)
    return Begun(plan.name, folder, identity.public_key, units)


def _check(plan: SitePlan, folder: Path, units: Path) -> None:
    """Raises `ConfigError` with every fault; nothing has been made yet."""
    faults = []
    if not _NAME.fullmatch(plan.name):
        faults.append(
            f"--name must be 1 to 40 letters, digits, dots, dashes or underscores, got "
            f"{plan.name!a}; choose another"
        )
    if plan.kind not in get_args(Kind):
        faults.append(f"--source must be csv, parquet or sql, got {plan.kind!a}; choose one")
    for option, user in (("--user", plan.user), ("--relay-user", plan.relay_user)):
        if not _USER.fullmatch(user):
            faults.append(f"{option} must be the name of a user, got {user!a}; correct it")
    if re.search(r"[\s%$\"'\\]", f"{folder}{units}{_program()}"):
        faults.append(
            "--site, --out and the installed program must have paths without blanks, quotes, "
            "% and $, which unit files cannot hold; choose another folder"
        )
    for name in (SOURCE_FILE, MANIFEST_FILE, LEDGER_FILE):
        if (folder / name).exists():
            faults.append(
                f"{folder} is a site already ({name} is there), and init never overwrites; go on "
                "with `fedrec-site check`, or choose another folder"
            )
            break
    if faults:
        raise ConfigError(faults)


def _words(plan: SitePlan, folder: Path) -> dict[str, str]:
    try:
        pwd.getpwnam(plan.relay_user)
        relay = f'relay_users = ["{plan.relay_user}"]'
    except KeyError:
        relay = f'# (Uncomment it when that user exists.)\n# relay_users = ["{plan.relay_user}"]'
    below_home = folder.is_relative_to("/home") or folder.is_relative_to("/root")
    return {
        "name": plan.name,
        "site": str(folder),
        "program": _program(),
        "user": plan.user,
        "relay_user": plan.relay_user,
        "relay_users": relay,
        # A site's folder below /home must stay visible to its own agent.
        "protect_home": "read-only" if below_home else "yes",
    }


def _program() -> str:
    """The installed command, beside the interpreter that runs it."""
    beside = Path(sys.executable).with_name("fedrec-site")
    return str(beside) if beside.exists() else shutil.which("fedrec-site") or str(beside)


def _filled(name: str, words: dict[str, str]) -> str:
    text = (files("client") / "templates" / name).read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _write_new(path: Path, text: str, mode: int) -> None:
    if not path.exists():
        write_bytes(path, text.encode("utf-8"), mode=mode)

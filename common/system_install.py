"""What only root can do for a service: its user, its folder's owner, a place for its units."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from common.atomic_files import file_errors
from common.errors import ConfigError

UNIT_FOLDER = Path("/etc/systemd/system")


def root_faults() -> list[str]:
    """Why `--system` cannot be done here; empty where it can."""
    if os.geteuid() != 0:
        return ["--system needs root; run this one command with sudo, or leave --system out"]
    if shutil.which("useradd") is None:
        return ["--system needs useradd, which this machine lacks; make the users yourself"]
    return []


def unit_faults(units: Path, texts: Mapping[str, str]) -> list[str]:
    """A fault for each unit file that is there already and says something else."""
    return [
        f"{units / name} is there already, of another installation; remove it first"
        for name, text in texts.items()
        if (units / name).exists() and (units / name).read_text(encoding="utf-8") != text
    ]


def home_of(user: str) -> Path:
    """The home of a service's user, which is its state folder, too."""
    return Path("/var/lib") / user


def make_user(user: str) -> None:
    """Makes a system user without a login, with a group and a closed home; or leaves it as it is.

    Raises:
        ConfigError: the system refuses.
    """
    try:
        pwd.getpwnam(user)
    except KeyError:
        _run(
            *("useradd", "--system", "--user-group", "--create-home", "--key", "HOME_MODE=0700"),
            *("--home-dir", str(home_of(user)), "--shell", "/usr/sbin/nologin", user),
        )


def join_group(user: str, group: str) -> None:
    """Makes `user` a member of `group` beside its own.

    Raises:
        ConfigError: the system refuses.
    """
    _run("usermod", "--append", "--groups", group, user)


def give(folder: Path, user: str) -> None:
    """Makes `folder` and everything in it the user's and its group's; follows no link.

    Raises:
        ConfigError: there is no such user.
        RunFolderError: the file system refuses.
    """
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError([f"user {user!a} is not on this machine; make it first"]) from None
    with file_errors("give away", folder):
        os.chown(folder, found.pw_uid, found.pw_gid, follow_symlinks=False)
        for below, folders, files in os.walk(folder):
            for name in [*folders, *files]:
                path = os.path.join(below, name)
                os.chown(path, found.pw_uid, found.pw_gid, follow_symlinks=False)


def keep_owner(folder: Path) -> None:
    """Where root wrote into a folder of another user's, makes it all that user's again.

    Raises:
        RunFolderError: the file system refuses.
    """
    with file_errors("look at", folder):
        owner = folder.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        give(folder, pwd.getpwuid(owner).pw_name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise ConfigError([f"{command[0]} {command[-1]} was refused: {said[-1]}; do it by hand"])

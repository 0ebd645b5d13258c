"""Lets a site's node in: its key beside the gate, and Flower's own registration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from common.atomic_files import file_errors, write_bytes
from common.errors import ConfigError, FederationError
from common.process_environment import QUIET_ENVIRONMENT
from server.server_folder import CONNECTION, ServerFolder
from server.site_keys import SiteKeys, read_node_key

ALREADY_REGISTERED = "Public key already in use"
"""Flower's words."""


def register_site(
    folder: ServerFolder, site: str, public_key: Path, *, replace: bool = False
) -> str | None:
    """Registers a site's public node key with the SuperLink, and lists it at the gate.

    Args:
        folder: the server's.
        site: its name.
        public_key: file of the node's public key.
        replace: the site has a new key; the one that is listed for it is shut out.

    Returns:
        The node's id, or None where the SuperLink knew the key already.

    Raises:
        ConfigError: the name or the key is taken.
        CertificateError: the file holds no key.
        FederationError: the SuperLink is not there, or refuses.
    """
    folder.settings()
    key, listed = read_node_key(public_key), folder.site_key(site)
    if listed.exists() and not replace:
        raise ConfigError(
            [f"{listed} is there already; give --replace if the site's node has a new key"]
        )
    if replace and not listed.exists():
        raise ConfigError([f"{listed} is not there to be replaced; leave --replace out"])
    other = SiteKeys(folder.sites).site_of(key)
    if other is not None and other != site:
        raise ConfigError([f"{public_key} is the key of site {other}; each site has its own"])
    node = _register(folder, site, public_key)
    with file_errors("read", public_key):
        write_bytes(listed, public_key.read_bytes())
    return node


def _register(folder: ServerFolder, site: str, public_key: Path) -> str | None:
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "flwr"), "supernode", "register"),
            *(str(public_key), CONNECTION, "--name", site, "--format", "json"),
        ],
        env={**os.environ, **QUIET_ENVIRONMENT, "FLWR_HOME": str(folder.flower_home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {}
    if "node-id" in answer:
        return str(answer["node-id"])
    said = answer.get("error-message") or done.stderr or done.stdout
    if ALREADY_REGISTERED in str(said):  # shut out at the gate before, or cut short here
        return None
    reason = " ".join(str(said).split())[-300:]
    raise FederationError(
        f"the SuperLink did not register site {site} ({reason or 'no reason given'}); "
        "is it running? see START.md"
    )

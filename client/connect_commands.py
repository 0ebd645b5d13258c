"""``fedrec-site connect``: how this site reaches its coordinator."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from client.site_option import AsJson, Ca, NodeFolder, Superlink
from common.atomic_files import write_text
from common.errors import ConfigError
from common.system_install import keep_owner


def connect(
    # Root may, too: the SuperNode's files can lie where only root writes.
    site: Annotated[Path, typer.Option("--site", metavar="FOLDER", help="The site's folder.")],
    superlink: Superlink = None,
    ca: Ca = None,
    node_folder: NodeFolder = None,
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Of the agent, as in `run`.")
    ] = None,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew", help="Replace the node's key, and the address or CA where one is given."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the node's key and connection.toml; print what the coordinator needs."""
    from client.site_data import declared_name

    name = declared_name(site)  # a site that was only begun has a name, too
    if renew:
        _renew(site, name, superlink, ca, as_json=as_json)
        return
    if superlink is None or ca is None:
        raise ConfigError(["connect needs --superlink and --ca; the coordinator gives both"])
    from client.connection import (
        SUPERNODE_UNIT,
        make_connection,
        plan_connection,
        supernode_command,
        supernode_unit,
    )
    from client.resident.socket_file import default_socket

    planned = plan_connection(site, superlink, ca, node_folder)
    public, connection = make_connection(site, planned), planned.connection
    path = (socket or default_socket(name)).absolute()
    unit = public.parent / SUPERNODE_UNIT
    write_text(unit, supernode_unit(connection, path, site.absolute()))
    keep_owner(site)
    if as_json:
        print(json.dumps({"site": name, "node_public_key": str(public), "unit": str(unit)}))
        return
    _print_key(public)
    print(f"unit file: {unit}; by hand:")
    print(f"  {shlex.join(supernode_command(connection, path))}")


def _renew(site: Path, name: str, superlink: str | None, ca: Path | None, *, as_json: bool) -> None:
    from client.connection import renew_connection

    public = renew_connection(site, superlink, ca)
    keep_owner(site)
    keep_owner(public.parent)
    if as_json:
        print(json.dumps({"site": name, "node_public_key": str(public)}))
        return
    _print_key(public)
    print(f"it runs: fedrec-server add-site {name} node.pub --replace; then restart the SuperNode")
    if superlink is not None:
        print("the SuperNode's unit names the old address: put the new one there, too")


def _print_key(public: Path) -> None:
    print(f"for the coordinator: {public}")
    print(public.read_text(encoding="ascii").strip())

"""``fedrec-site connect``: how this site reaches its coordinator."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from common.atomic_files import write_text


def connect(
    site: Annotated[Path, typer.Option("--site", metavar="FOLDER", help="The site's folder.")],
    superlink: Annotated[str, typer.Option(metavar="HOST:PORT", help="Of the coordinator.")],
    ca: Annotated[Path, typer.Option(metavar="FILE", help="Its ca.crt, handed over safely.")],
    node_folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="For what the SuperNode's user reads. Default: SITE/node."
        ),
    ] = None,
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Of the agent, as in `run`.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout.")
    ] = False,
) -> None:
    """Make the node's key and connection.toml; print what the coordinator needs."""
    from client.connection import (
        SUPERNODE_UNIT,
        make_connection,
        read_connection,
        supernode_command,
        supernode_unit,
    )
    from client.resident.socket_file import default_socket
    from client.site_data import declared_name

    name = declared_name(site)  # a site that was only begun has a name, too
    public = make_connection(site, superlink, ca, node_folder)
    connection = read_connection(site)
    if connection is None:  # it was removed meanwhile
        raise typer.Exit(2)
    path = (socket or default_socket(name)).absolute()
    unit = public.parent / SUPERNODE_UNIT
    write_text(unit, supernode_unit(connection, path, site.absolute()))
    if as_json:
        print(json.dumps({"site": name, "node_public_key": str(public), "unit": str(unit)}))
        return
    print(f"for the coordinator: {public}")
    print(public.read_text(encoding="ascii").strip())
    print(f"unit file: {unit}; by hand:")
    print(f"  {shlex.join(supernode_command(connection, path))}")

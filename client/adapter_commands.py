"""``fedrec-site install-adapter`` and ``rollback-adapter``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from client.site_option import AsJson, Site


def install_adapter(
    export: Annotated[Path, typer.Argument(help="What `fedrec-server export` made.")],
    site: Site,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="PUB", help="The coordinator's key, hex. Default: the policy's code_signers."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify an exported adapter and make it this site's current one."""
    from client.installed_adapter import install_adapter as install
    from client.site_data import load_site
    from client.site_setup import policy_of
    from common.config import RunConfig

    data = load_site(site)
    policy = policy_of(site, RunConfig(), is_simulated=data.simulated)
    name, manifest = install(export, site, policy, data.catalogue, key)
    if as_json:
        print(json.dumps({"current": name, "run": manifest.run, "signer": manifest.signer}))
    else:
        print(f"current adapter: {name} (run {manifest.run}, round {manifest.server_round})")


def rollback_adapter(site: Site, as_json: AsJson = False) -> None:
    """Make the adapter before the current one the current one again."""
    from client.installed_adapter import rollback_adapter as rollback

    name = rollback(site)
    print(json.dumps({"current": name}) if as_json else f"current adapter: {name}")

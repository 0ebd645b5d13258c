"""``fedrec-site run``: from a site's folder to a served socket, and an orderly end."""

from __future__ import annotations

import logging
from pathlib import Path
from socket import socket as Socket
from typing import TYPE_CHECKING

from client.resident.heartbeat import Heartbeat, figures_file
from client.resident.peer_credentials import allowed_uids
from client.resident.server import AgentServer
from client.resident.signals import EndOnSignals
from client.resident.site_metrics import SiteMetrics
from client.resident.socket_file import default_socket, listening_socket, only_agent
from common.config import RunConfig
from common.logs import configure_log
from common.site_folder import MANIFEST_FILE, SiteManifest, read_manifest
from common.state_folder import state_folder

if TYPE_CHECKING:
    from client.resident.site import ResidentSite

SITE_LOCK = "agent.lock"

logger = logging.getLogger("fedrec-site")


def run_site(
    folder: Path,
    config: RunConfig,
    *,
    socket: Path | None,
    group: str | None,
    signals: EndOnSignals,
) -> None:
    """Serves the site in `folder` until SIGTERM or SIGINT.

    Args:
        folder: the site's folder.
        config: the run that is expected; the self-test proves it and its model is loaded.
        socket: where to listen; None: `client.resident.socket_file.default_socket`.
        group: whose members may open the socket; None: this process's own group.
        signals: made before this module was imported.

    Raises:
        FedrecError: the site cannot be served, or is served already.
    """
    # Where its ledger is anchored is the operator's alone, too.
    hidden = {folder: "SITE", state_folder() / "anchors": "ANCHORS"}
    configure_log("client", logger.name, hidden=hidden)
    folder = folder.resolve()
    # Before any file is made in what may be no site.
    name = read_manifest(folder / MANIFEST_FILE, SiteManifest).site
    path = (socket or default_socket(name)).absolute()
    with (
        only_agent(folder / SITE_LOCK, f"site {folder}"),
        listening_socket(path, group) as listener,  # who connects early waits
    ):
        signals.socket, signals.figures = path, figures_file(path)
        metrics = SiteMetrics(name)
        heartbeat = Heartbeat(signals.figures, metrics)
        with heartbeat.beating():
            _serve(folder, path, config, listener, heartbeat, metrics)


def _serve(
    folder: Path,
    path: Path,
    config: RunConfig,
    listener: Socket,
    heartbeat: Heartbeat,
    metrics: SiteMetrics,
) -> None:
    from client.resident.ledger_look import LedgerLook
    from client.resident.site import ResidentSite  # a refusal must not wait for torch

    site = ResidentSite(folder, metrics.answered)
    policy, refreshed = site.policy, (folder / MANIFEST_FILE).stat().st_mtime
    metrics.declared(site.data.declared_units, policy, refreshed)
    allowed = allowed_uids(policy.relay_users)
    proven = _prove(site, config)
    metrics.tested("passed" if config.is_private else "not_needed")
    logger.info("%s", _greeting(site, path, proven))
    _warn_if_alone(site)
    server = AgentServer(listener, site.answer, allowed)
    heartbeat.serve(LedgerLook(site.ledger, policy).tell)
    server.serve()


def _prove(site: ResidentSite, config: RunConfig) -> str:
    """Proves the private step, which also loads the model; a run's own proof comes with it."""
    if not config.is_private:
        return "no self-test: privacy.mode=none makes no claim"
    from client.start_up import prove_private_step

    prove_private_step(config, site.data.catalogue)
    return "self-test passed"


def _greeting(site: ResidentSite, path: Path, proven: str) -> str:
    policy = site.policy
    spent = site.ledger.epsilon(policy.max_delta)
    return (
        f"serving site {site.data.site} ({site.data.declared_units} declared units) on {path}: "
        f"modes {', '.join(sorted(policy.allowed_modes))}; ε spent {spent:.2f} of "
        f"{policy.max_epsilon:g} at δ={policy.max_delta:g}; {proven}"
    )


def _warn_if_alone(site: ResidentSite) -> None:
    if not site.policy.relay_users:
        logger.warning(
            "relay_users of policy.toml is empty: only this very user may ask, and a SuperNode "
            "under this user could read the site's folder itself; give each its own user"
        )

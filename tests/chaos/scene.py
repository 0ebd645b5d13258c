"""The deployment of a campaign: server, sites, and links between them that can break."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.app_staging import write_run_config
from common.config import RunConfig
from common.errors import FederationError
from server.deployment_files import GATE_UNIT, SUPERLINK_UNIT
from simulations.engines.processes import end_marked_processes
from tests.chaos.proxy import Link
from tests.chaos.supervisor import Supervisor, Unit, restart_seconds
from tests.deployment import (
    HOST,
    Deployment,
    begun_server,
    fedrec_site,
    free_port,
    read_unit,
    wait_until_healthy,
)
from tests.resident_agents import COMMAND, make_real

AGENT_RESTART_S = 0.1
"""systemd's own `RestartSec`: the agent's unit names none."""
ATTEMPTS = 5

POLICY = """
allowed_modes = ["{mode}"]
allow_seeded_noise = true
code_signers = ["{signer}"]
min_participants = 2
min_colluders = 0
max_epsilon = 100.0

[peers]
{pins}"""


@dataclass
class Scene:
    """A deployment with links that can break, under a supervisor."""

    deployment: Deployment
    supervisor: Supervisor
    links: dict[str, Link]
    sites: Sequence[Path]


@contextmanager
def short_folder() -> Iterator[Path]:
    """Short enough for sockets; kept where something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="frc-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@contextmanager
def own_state(folder: Path) -> Iterator[None]:
    """The sites' anchors, of this process's commands and of all that it starts."""
    before = os.environ.get("FEDREC_STATE")
    os.environ["FEDREC_STATE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("FEDREC_STATE")
        if before is not None:
            os.environ["FEDREC_STATE"] = before


@contextmanager
def scene(folder: Path, config: RunConfig, sites: Sequence[Path]) -> Iterator[Scene]:
    """Server, sites, agents, SuperNodes and the links between; all ended at the end."""
    scenario = str(write_run_config(folder / "scenario.toml", config))
    server = folder / "server"
    deployment = begun_server(server, "--scenario", scenario, "--sites", str(len(sites)))
    with ExitStack() as stack:
        supervisor = Supervisor()
        stack.callback(end_marked_processes, deployment.mark)
        stack.callback(supervisor.close)
        for name, file in (("superlink", SUPERLINK_UNIT), ("gate", GATE_UNIT)):
            supervisor.add(_unit(deployment, name, server / "systemd" / file))
        _pin(sites, deployment.signer, config.privacy.mode)
        for site in sites:
            supervisor.add(_agent(deployment, site, folder / "s", scenario))
        wait_until_healthy(deployment)
        links = {}
        for site in sites:
            links[site.name] = Link(deployment.server.settings().port)
            stack.callback(links[site.name].close)
            _wait_for_agent(supervisor.units[f"agent-{site.name}"].log)
            _join(deployment, supervisor, site, folder / "s", links[site.name].port)
        yield Scene(deployment, supervisor, links, sites)


def _unit(deployment: Deployment, name: str, file: Path, *extra: str) -> Unit:
    command, environment = read_unit(file)
    log = deployment.log.with_name(f"{name}.log")
    environment = {**deployment.environment(), **environment}
    return Unit(name, [*command, *extra], environment, restart_seconds(file), log)


def _agent(deployment: Deployment, site: Path, sockets: Path, scenario: str) -> Unit:
    name = f"agent-{site.name}"
    path = sockets / site.name / "a.sock"
    command = [*COMMAND, "run", "--site", str(site), "--socket", str(path), "--scenario", scenario]
    log = deployment.log.with_name(f"{name}.log")
    return Unit(name, command, deployment.environment(), AGENT_RESTART_S, log)


def _wait_for_agent(log: Path) -> None:
    end = time.monotonic() + 180
    while "serving site" not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def _pin(sites: Sequence[Path], signer: str, mode: str) -> None:
    for site in sites:
        make_real(site, POLICY.format(mode=mode, signer=signer, pins=""))
    pins = "".join(fedrec_site("identity", "--site", site) for site in sites)
    for site in sites:
        make_real(site, POLICY.format(mode=mode, signer=signer, pins=pins))


def _join(
    deployment: Deployment, supervisor: Supervisor, site: Path, sockets: Path, port: int
) -> None:
    fedrec_site(
        *("connect", "--site", site, "--superlink", f"{HOST}:{port}"),
        *("--ca", deployment.server.tls / "ca.crt"),
        *("--socket", sockets / site.name / "a.sock"),
    )
    _let_in(deployment, site)
    file = site / "node" / "fedrec-supernode.service"
    # A node's own port is the unit's in a deployment, where each host has one node.
    unit = _unit(deployment, f"supernode-{site.name}", file, "--port", str(free_port()))
    unit.environment["FLWR_HOME"] = str(sockets / site.name / "flwr")
    supervisor.add(unit)


def _let_in(deployment: Deployment, site: Path) -> None:
    """`add-site`; on a busy machine Flower's command may lose patience with the SuperLink."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return deployment.add_site(site)
        except FederationError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(2)

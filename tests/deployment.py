"""A real deployment on one machine, by the product's own commands and unit files.

`fedrec-server init`, the SuperLink and the gate as their units start them, `fedrec-site
connect`, `add-site`, SuperNodes as their units start them, `fedrec-site run` and `flwr run`.
Whatever is started here is ended here.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from typer import Typer
from typer.testing import CliRunner

from client.cli import app as site_app
from common.process_environment import QUIET_ENVIRONMENT
from server.cli import app as server_app
from server.deployment_files import GATE_UNIT, SUPERLINK_UNIT, run_command
from server.server_folder import ServerFolder
from simulations.engines.processes import KILL_S, MARK, end_marked_processes
from tests.resident_agents import resident_agent

START_S = 300.0
HOST = "localhost"


def fedrec_server(*arguments: str | Path) -> str:
    """What a `fedrec-server` command prints; errors are raised.

    It runs in this process: a process of its own would import all of torch again.
    """
    return _printed(server_app, arguments)


def fedrec_site(*arguments: str | Path) -> str:
    """As `fedrec_server`, of the site's commands."""
    return _printed(site_app, arguments)


def _printed(app: Typer, arguments: Sequence[str | Path]) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@dataclass
class Deployment:
    """A running server side and what is started beside it.

    Attributes:
        server: the folder that `fedrec-server init` made.
        signer: its public signing key.
        mark: in the environment of every process that was started.
        nodes: SuperNodes by site.
        started: every process that was started, also those that have ended.
    """

    server: ServerFolder
    signer: str
    mark: str
    log: Path
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where sites connect."""
        return f"{HOST}:{self.server.settings().port}"

    def start_unit(self, unit: Path, **extra: str) -> subprocess.Popen[bytes]:
        """Starts what a unit file says, with its environment."""
        command, environment = read_unit(unit)
        return self.start(command, **environment, **extra)

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        """Starts a command; what it prints goes to the log."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**self.environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def environment(self) -> dict[str, str]:
        """Of a process of this deployment; a service manager's PATH is no longer."""
        return {
            **os.environ,
            **QUIET_ENVIRONMENT,
            "OMP_NUM_THREADS": "1",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            MARK: self.mark,
        }

    def connect(self, site: Path, socket_path: Path) -> Path:
        """`fedrec-site connect`; returns the folder of what the SuperNode reads."""
        fedrec_site(
            *("connect", "--site", site, "--superlink", self.address),
            *("--ca", self.server.tls / "ca.crt", "--socket", socket_path),
        )
        return site / "node"

    def add_site(self, site: Path) -> None:
        """`fedrec-server add-site` with the key that `connect` made."""
        key = site / "node" / "node.pub"
        fedrec_server("add-site", site.name, key, "--folder", self.server.path)

    def start_node(self, site: Path, home: Path) -> subprocess.Popen[bytes]:
        """The site's SuperNode, as its unit starts it."""
        command, environment = read_unit(site / "node" / "fedrec-supernode.service")
        environment["FLWR_HOME"] = str(home)
        process = self.start([*command, "--port", str(free_port())], **environment)
        self.nodes[site.name] = process
        return process

    def run(self, *, limit_s: float = 3000.0) -> str:
        """`flwr run` as START.md says, until it has ended; what it and Flower printed."""
        done = subprocess.run(
            run_command(self.server),
            env={**self.environment(), "FLWR_HOME": str(self.server.flower_home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
        return self.log.read_text() + done.stdout + done.stderr

    def the_run(self) -> Path:
        """The folder of the one run."""
        (only,) = self.server.runs.iterdir()
        return only


def read_unit(path: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a systemd unit."""
    environment, command = {}, []
    for line in path.read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "Environment":
            name, _, content = shlex.split(value)[0].partition("=")
            environment[name] = content
        elif key == "ExecStart":
            command = shlex.split(value)
    return command, environment


def begun_server(folder: Path, *options: str) -> Deployment:
    """`fedrec-server init`; nothing is started."""
    ports = [
        word
        for option in ("--port", "--superlink-port", "--metrics-port", "--health-port")
        for word in (option, str(free_port()))
    ]
    listen = ("--listen", "127.0.0.1")
    said = fedrec_server("init", folder, "--host", HOST, "--json", *ports, *listen, *options)
    signer, mark = json.loads(said)["signer"], secrets.token_hex(16)
    log = folder.with_name(folder.name + ".log")
    return Deployment(ServerFolder(folder), signer, mark, log)


@contextmanager
def deployed_server(folder: Path, *options: str, gate: Sequence[str] = ()) -> Iterator[Deployment]:
    """`fedrec-server init`, then SuperLink and gate, ready to answer.

    Args:
        folder: for the server.
        options: of `fedrec-server init`.
        gate: command that serves the gate in place of its unit's.
    """
    deployment = begun_server(folder, *options)
    try:
        deployment.start_unit(folder / "systemd" / SUPERLINK_UNIT)
        command, environment = read_unit(folder / "systemd" / GATE_UNIT)
        deployment.start(gate or command, **environment)
        wait_until_healthy(deployment)
        yield deployment
    finally:
        left = end_marked_processes(deployment.mark)
        for process in deployment.started:
            process.wait(timeout=KILL_S)  # takes its exit status, so that no zombie stays
        assert not left, left


@contextmanager
def joined_sites(
    deployment: Deployment, sites: Sequence[Path], sockets: Path, *options: str
) -> Iterator[None]:
    """Resident agents and SuperNodes of the site folders `sites`, let in and started."""
    with ExitStack() as stack:
        for site in sites:
            path = sockets / site.name / "a.sock"
            stack.enter_context(resident_agent(site, path, *options))
            deployment.connect(site, path)
            deployment.add_site(site)
            deployment.start_node(site, sockets / site.name / "flwr")
        yield


def wait_until_healthy(deployment: Deployment) -> None:
    """Until the gate passes on the SuperLink's own answer."""
    settings = deployment.server.settings()
    trust = ssl.create_default_context(cafile=str(deployment.server.tls / "ca.crt"))
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        asked = http.client.HTTPSConnection(HOST, settings.port, timeout=2, context=trust)
        try:
            asked.request("GET", "/health")
            if asked.getresponse().status == http.client.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            asked.close()
        time.sleep(0.2)
    raise AssertionError(deployment.log.read_text())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

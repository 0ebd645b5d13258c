"""Real resident agents and a real Flower deployment (SuperLink, SuperNodes) for tests."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from common.app_staging import write_run_config
from common.config import RunConfig
from common.site_folder import MANIFEST_FILE
from simulations.engines.superlink import CONNECTION, SuperLink, own_superlink, script

START_S = 180.0
NO_MODEL = ("--set", "privacy.mode=none")
"""Starts at once: mode none has no self-test."""


@dataclass(frozen=True)
class RunningAgent:
    """A `fedrec-site run` in a process of its own."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: Path

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def resident_agent(site: Path, path: Path, *options: str) -> Iterator[RunningAgent]:
    """A resident agent of the folder `site` on the socket `path`, ready to answer."""
    log = path.with_name(path.name + ".log") if path.parent.exists() else site / "agent.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, "run", "--site", str(site), "--socket", str(path), *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    agent = RunningAgent(process, path, log)
    try:
        end = time.monotonic() + START_S
        while "serving site" not in log.read_text() and time.monotonic() < end:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield agent
    finally:
        process.kill()
        process.wait()


COMMAND = [sys.executable, "-m", "client.cli"]


def fedrec_site(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One `fedrec-site` command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def make_real(site: Path, policy: str) -> None:
    """Turns a simulated site's folder into one that stands for itself, with this policy."""
    manifest = site / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"simulated": true', '"simulated": false'))
    (site / "policy.toml").write_text(policy)


@contextmanager
def deployed_federation(
    node_configs: Sequence[str], extra: Mapping[str, str]
) -> Iterator[SuperLink]:
    """A SuperLink with one SuperNode per node config, as a deployment has them."""
    with own_superlink(extra, is_simulation=False) as superlink:
        config = tomllib.loads((superlink.home / "config.toml").read_text())
        address = config["superlink"][CONNECTION]["address"]
        for number, node_config in enumerate(node_configs):
            home = superlink.home / f"node-{number}"
            home.mkdir()
            environment = {**superlink.environment, "FLWR_HOME": str(home)}
            replace(superlink, environment=environment).start(
                [
                    *("flower-supernode", "--insecure", "--superlink", address),
                    *("--host", "127.0.0.1", "--port", str(_free_port())),
                    *("--node-config", node_config),
                ]
            )
        yield superlink


def run_bundle(superlink: SuperLink, app: Path, config: RunConfig) -> str:
    """`flwr run` of the bundle in `app` until it has ended; what it and Flower printed."""
    run_config = write_run_config(superlink.home / "run-config.toml", config)
    command = [script("flwr"), "run", str(app), CONNECTION, "--stream"]
    done = subprocess.run(
        [*command, "--run-config", str(run_config)],
        env=superlink.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    return superlink.log.read_text() + done.stdout + done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""The text files of a deployment: commands, systemd units, a compose file, what to do next.

Every place that starts the SuperLink or the gate takes the command from here, and so do the
tests, which start what the unit files say.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from common.logs import JSON_LOG, LOG_VARIABLE
from common.process_environment import QUIET_ENVIRONMENT, path_of_scripts
from common.unit_hardening import WITHOUT_DEVICES
from server.server_folder import CONNECTION, ServerFolder, ServerSettings

SUPERLINK_UNIT = "fedrec-superlink.service"
GATE_UNIT = "fedrec-gate.service"
LOOPBACK = "127.0.0.1"
SERVER_USER = "fedrec-server"


def superlink_command(folder: ServerFolder, settings: ServerSettings) -> list[str]:
    """Flower's SuperLink: TLS, a database, node authentication; on this machine only."""
    tls = folder.tls
    return [
        _script("flower-superlink"),
        *("--host", LOOPBACK, "--port", str(settings.superlink_port)),
        *("--ssl-ca-certfile", str(tls / "local-ca.crt")),
        *("--ssl-certfile", str(tls / "superlink.crt")),
        *("--ssl-keyfile", str(tls / "superlink.key")),
        *("--database", str(folder.database)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def gate_command(folder: ServerFolder, *options: str) -> list[str]:
    """The gate, the one thing that sites can reach."""
    return [*_own_command(), "gate", str(folder.path), *options]


def server_environment(folder: ServerFolder) -> dict[str, str]:
    """Environment of the SuperLink and of the ServerApp that it starts."""
    return {
        **QUIET_ENVIRONMENT,
        "PATH": path_of_scripts(),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder.path / "state" / "hub"),
        "FLWR_HOME": str(folder.path / "state" / "flower"),
        "FEDREC_RUNS": str(folder.runs),
    }


def run_command(folder: ServerFolder) -> list[str]:
    """`flwr run` of the folder's bundle with the folder's configuration."""
    return [
        *(_script("flwr"), "run", str(folder.app), CONNECTION, "--stream"),
        *("--run-config", str(folder.run_file)),
    ]


def write_unit_texts(folder: ServerFolder, settings: ServerSettings) -> dict[str, str]:
    """The units by file name."""
    environment = {**server_environment(folder), **JSON_LOG}
    return {
        SUPERLINK_UNIT: _unit(
            "Flower SuperLink of fedrec",
            superlink_command(folder, settings),
            environment,
            folder,
        ),
        GATE_UNIT: _unit(
            "fedrec gate: what sites may reach of the SuperLink",
            gate_command(folder),
            JSON_LOG,
            folder,
            after=SUPERLINK_UNIT,
        ),
    }


def compose_text(folder: ServerFolder, settings: ServerSettings) -> str:
    """A compose file: both services share one network, and only the gate's port is open."""
    variables = {**server_environment(folder), **JSON_LOG}
    environment = "\n".join(f"      {name}: {_quoted(v)}" for name, v in variables.items())
    # The container's own loopback is out of the host's reach.
    gate = gate_command(folder, "--observe-listen", "0.0.0.0")
    own = [f"{LOOPBACK}:{p}:{p}" for p in (settings.metrics_port, settings.health_port) if p]
    ports = [f"{settings.port}:{settings.port}", *own]
    return f"""\
# FEDREC_IMAGE is an image of yours with fedrec installed at {Path(sys.prefix)}.
# Both services share one network; metrics and health are published on this machine alone.
services:
  superlink:
    image: ${{FEDREC_IMAGE:?set it to an image with fedrec installed}}
    command: [{", ".join(map(_quoted, superlink_command(folder, settings)))}]
    environment:
{environment}
    ports: [{", ".join(map(_quoted, ports))}]
    volumes: ["{folder.path}:{folder.path}"]
    restart: unless-stopped
  gate:
    image: ${{FEDREC_IMAGE}}
    command: [{", ".join(map(_quoted, gate))}]
    environment:
      {LOG_VARIABLE}: json
    network_mode: service:superlink
    volumes: ["{folder.path}:{folder.path}:ro"]
    depends_on: [superlink]
    restart: unless-stopped
"""


def start_text(
    folder: ServerFolder, settings: ServerSettings, signer: str, *, installed: bool = False
) -> str:
    """``START.md``: the next commands of both sides.

    Args:
        folder: the server's.
        settings: its own.
        signer: its public signing key, hex.
        installed: whether the units are where systemd looks.
    """
    path = shlex.quote(str(folder.path))
    copy = "" if installed else f"       cp {path}/systemd/*.service /etc/systemd/system/\n"
    who = f"sudo -u {SERVER_USER} " if installed else ""
    address = f"{settings.host}:{settings.port}"
    variables = " ".join(
        f"{name}={shlex.quote(value)}" for name, value in server_environment(folder).items()
    )
    return f"""\
# Start this federation

1. Start the SuperLink and the gate (or run the two commands below by hand):

{copy}       systemctl enable --now {SUPERLINK_UNIT} {GATE_UNIT}

       {variables} \\
         {shlex.join(superlink_command(folder, settings))}
       {shlex.join(gate_command(folder))}

2. Give each site, on a way that nobody can change: the file {path}/tls/ca.crt, the address
   {address}, and the key that signs the bundle and the exported adapter. It says

       fedrec-site init --site FOLDER --name NAME --superlink {address} --ca ca.crt \\
         --signer {signer}

   (a site that was begun before says `fedrec-site connect`, and
   code_signers = ["{signer}"] in its policy.toml)
   and sends back the file node.pub that this made. Let it in:

       {who}fedrec-server add-site NAME node.pub --folder {path}

3. Run, when all sites have joined:

       {who}env FLWR_HOME={shlex.quote(str(folder.flower_home))} {shlex.join(run_command(folder))}

4. Hand out the result:

       {who}fedrec-server export {path}/runs/RUN --out ./export --key {path}/signing.key
"""


def _unit(
    description: str,
    command: Sequence[str],
    environment: dict[str, str],
    folder: ServerFolder,
    after: str = "network-online.target",
) -> str:
    variables = "".join(f'Environment="{name}={v}"\n' for name, v in environment.items())
    return f"""\
[Unit]
Description={description}
After={after}
StartLimitIntervalSec=0

[Service]
User={SERVER_USER}
Group={SERVER_USER}
UMask=0077
WorkingDirectory={folder.path}
{variables}ExecStart={shlex.join(command)}
Restart=always
RestartSec=5
{WITHOUT_DEVICES}
ProtectHome=yes
ReadWritePaths={folder.path}/state {folder.path}/runs

[Install]
WantedBy=multi-user.target
"""


def _own_command() -> list[str]:
    """``fedrec-server`` itself, from wherever it runs; -P: no module of the working folder's."""
    script = Path(_script("fedrec-server"))
    return [str(script)] if script.is_file() else [sys.executable, "-P", "-m", "server.cli"]


def _script(name: str) -> str:
    """A console script of this Python's environment."""
    return str(Path(sys.executable).parent / name)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") + '"'

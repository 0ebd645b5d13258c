"""Whether SuperLink and gate answer, asked on this machine as their own clients would."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

import httpx

from server.deployment_files import LOOPBACK
from server.server_folder import ServerFolder, ServerSettings

PROBE_S = 3.0
_ANY_ADDRESS = {"0.0.0.0": LOOPBACK, "::": "[::1]", "": LOOPBACK}


class Up(NamedTuple):
    """Which of the server's two processes answer."""

    gate: bool
    superlink: bool


def superlink_is_up(folder: ServerFolder, settings: ServerSettings) -> bool:
    """Whether the SuperLink answers on its own port."""
    address = f"{LOOPBACK}:{settings.superlink_port}"
    return _status(address, folder.tls / "local-ca.crt", "localhost") == httpx.codes.OK


def what_is_up(folder: ServerFolder, settings: ServerSettings) -> Up:
    """Whether the gate answers, and the SuperLink."""
    host = _ANY_ADDRESS.get(settings.listen, settings.listen)
    gate = _status(f"{host}:{settings.port}", folder.tls / "ca.crt", settings.host)
    return Up(gate is not None, superlink_is_up(folder, settings))


def _status(address: str, trusted: Path, name: str) -> int | None:
    """The HTTP status of ``/health``; None where nobody answers who holds `name`'s certificate."""
    try:
        trust = ssl.create_default_context(cafile=str(trusted))
        with httpx.Client(verify=trust, timeout=PROBE_S, trust_env=False) as client:
            answer = client.get(f"https://{address}/health", extensions={"sni_hostname": name})
    except (httpx.HTTPError, OSError):  # OSError: no certificate to trust
        return None
    return answer.status_code

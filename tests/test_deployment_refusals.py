"""Who may not join, by the real SuperLink, gate and SuperNodes; each with its reason in a line."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.connection import read_connection
from client.connection_check import check_connection
from common.errors import ConnectionFault
from common.site_folder import MANIFEST_FILE, SiteManifest, write_manifest
from server.certificates import Credentials, issue, make_authority, read_authority
from server.deployment_files import gate_command
from server.gate import NODE_KEY_HEADER
from server.server_folder import ServerFolder
from server.site_keys import read_node_key
from tests.deployment import HOST, START_S, Deployment, deployed_server, free_port, read_unit

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

GIVES_UP = ("--max-retries", "1")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Generator[Deployment]:
    with deployed_server(tmp_path_factory.mktemp("deployment") / "server") as running:
        yield running


@pytest.fixture
def site(tmp_path: Path, deployment: Deployment) -> Path:
    """A site that is connected, and not let in yet."""
    folder = tmp_path / tmp_path.name[-40:]
    folder.mkdir()
    manifest = SiteManifest(site="north", declared_units=9, dataset="d", catalogue_sha256="0" * 64)
    write_manifest(folder / MANIFEST_FILE, manifest)
    deployment.connect(folder, tmp_path / "a.sock")
    return folder


def what_a_node_says(deployment: Deployment, site: Path, *changed: str) -> str:
    """What the site's SuperNode prints until it has given up."""
    command, environment = read_unit(site / "node" / "fedrec-supernode.service")
    for option, value in zip(changed[::2], changed[1::2], strict=True):
        command[command.index(option) + 1] = value
    done = subprocess.run(
        [*command, *GIVES_UP, "--port", str(free_port())],
        env={**deployment.environment(), **environment, "FLWR_HOME": str(site / "flwr")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


def fault_of(site: Path) -> str:
    """The line that `fedrec-site check` ends with."""
    connection = read_connection(site)
    assert connection is not None
    with pytest.raises(ConnectionFault) as fault:
        check_connection(connection)
    assert "\n" not in str(fault.value)
    return str(fault.value)


def test_an_unknown_node_key(deployment: Deployment, site: Path) -> None:
    assert "unknown node key; send node.pub to the coordinator" in fault_of(site)
    assert "unknown node key; send node.pub to the coordinator" in what_a_node_says(
        deployment, site
    )
    deployment.add_site(site)
    connection = read_connection(site)
    assert connection is not None
    assert "the node's key is registered" in check_connection(connection)[1]
    deployment.server.site_key(site.name).unlink()  # shut out, at once
    assert "unknown node key" in fault_of(site)
    deployment.add_site(site)  # and let in again, though Flower knows the key
    assert "the node's key is registered" in check_connection(connection)[1]


def test_a_key_that_the_gate_lists_and_the_superlink_does_not(
    deployment: Deployment, site: Path
) -> None:
    """The second lock holds where the first is opened by hand."""
    key = site / "node" / "node.pub"
    listed = deployment.server.sites / "by-hand.pub"
    listed.write_bytes(key.read_bytes())
    try:
        assert "Failed to activate SuperNode" in what_a_node_says(deployment, site)
    finally:
        listed.unlink()


def test_a_node_that_trusts_another_authority(deployment: Deployment, site: Path) -> None:
    other = make_authority("another")
    (site / "node" / "ca.crt").write_bytes(other.certificate_pem())
    assert "is signed by none of" in fault_of(site)
    said = what_a_node_says(deployment, site)
    assert "SSL/TLS handshake error detected" in said
    assert "certificate verify failed" in said


def test_an_expired_certificate(deployment: Deployment, site: Path) -> None:
    tls = deployment.server.tls
    authority = read_authority(tls / "ca.crt", tls / "ca.key")
    then = datetime.now(UTC) - timedelta(days=9)
    expired = issue(authority, [HOST], now=then, days=3)
    with second_gate(deployment, expired) as port:
        connection = site / "connection.toml"
        text = connection.read_text()
        connection.write_text(text.replace(deployment.address, f"{HOST}:{port}"))
        assert f"the certificate of {HOST}:{port} has expired" in fault_of(site)
        said = what_a_node_says(deployment, site, "--superlink", f"{HOST}:{port}")
        assert "certificate has expired" in said


def test_plain_http_to_the_gate_and_a_plain_server(deployment: Deployment, site: Path) -> None:
    with socket.create_connection((HOST, deployment.server.settings().port), timeout=30) as plain:
        plain.sendall(b"POST /v1/fleet/activate-node HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(4096).startswith(b"HTTP/")  # a TLS alert at most
    command, environment = read_unit(site / "node" / "fedrec-supernode.service")
    at = command.index("--root-certificates")
    command[at : at + 2] = ["--insecure"]  # with a key, Flower itself refuses that
    done = subprocess.run(
        [*command, *GIVES_UP, "--port", str(free_port())],
        env={**deployment.environment(), **environment, "FLWR_HOME": str(site / "flwr")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode != 0
    assert "SuperNode authentication requires a secure TLS connection" in done.stdout + done.stderr


def test_a_site_cannot_reach_what_is_the_coordinator_s(deployment: Deployment) -> None:
    """With Flower's one port open to sites, each of these would be answered."""
    for path in ("/v1/control/register-node", "/v1/control/start-run", "/v1/runtime/acquire-task"):
        status, said = ask(deployment, path, {})
        assert status == http.client.NOT_FOUND
        assert "this address serves sites only" in said


def test_an_oversized_message(deployment: Deployment, site: Path) -> None:
    deployment.add_site(site)
    key = read_node_key(site / "node" / "node.pub")
    most = deployment.server.settings().max_request_mib
    headers = {
        NODE_KEY_HEADER: b64encode(key).decode(),
        "Content-Length": str((most << 20) + 1),
    }
    status, said = ask(deployment, "/v1/fleet/push-object", headers)
    assert status == http.client.REQUEST_ENTITY_TOO_LARGE
    assert f"the request of site {site.name} is larger than {most} MiB" in said


@contextmanager
def second_gate(deployment: Deployment, shown: Credentials) -> Iterator[int]:
    """A gate of the same SuperLink with another certificate; its port."""
    folder, port = deployment.server.path, free_port()
    other = folder.with_name("second")
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("state", "app", "runs"))
    (other / "tls" / "server.crt").write_bytes(shown.certificate_pem())
    (other / "tls" / "server.key").write_bytes(shown.key_pem())
    settings = deployment.server.settings().model_copy(update={"port": port})
    ServerFolder(other).write_settings(settings)
    process = deployment.start(gate_command(ServerFolder(other)))
    try:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
                break
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait()


def ask(deployment: Deployment, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """One POST to the gate, over TLS."""
    trust = ssl.create_default_context(cafile=str(deployment.server.tls / "ca.crt"))
    port = deployment.server.settings().port
    asked = http.client.HTTPSConnection(HOST, port, timeout=60, context=trust)
    try:
        asked.putrequest("POST", path)
        for name, value in {"Content-Length": "0", **headers}.items():
            asked.putheader(name, value)
        asked.endheaders()
        answer = asked.getresponse()
        return answer.status, answer.read().decode()
    finally:
        asked.close()

"""Who may not join, by the real SuperLink, gate and SuperNodes; each with its reason in a line."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from client.connection import read_connection
from client.connection_check import check_connection
from common.app_staging import write_run_config
from common.base_weights import MINILM, resolve_base_weights
from common.bundle_hash import SIGNATURES_FILE
from common.config import (
    DataConfig,
    EngineConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.errors import ConnectionFault
from common.site_folder import MANIFEST_FILE, SiteManifest, write_manifest
from server.certificates import Credentials, issue, make_authority, read_authority
from server.deployment_files import gate_command
from server.gate import NODE_KEY_HEADER, SIGNED_TIME_HEADER
from server.server_folder import ServerFolder
from server.site_keys import read_node_key
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.deployment import (
    HOST,
    START_S,
    Deployment,
    deployed_server,
    fedrec_server,
    fedrec_site,
    free_port,
    read_unit,
)
from tests.resident_agents import NO_MODEL, RunningAgent, make_real, resident_agent

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
    return until_it_ends(deployment, command, environment, site)


def until_it_ends(
    deployment: Deployment, command: list[str], environment: dict[str, str], site: Path
) -> str:
    """What a SuperNode prints; to a file, since its own helper outlives it on the same pipe."""
    said = site / "node.log"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [*command, *GIVES_UP, "--port", str(free_port())],
            env={**deployment.environment(), **environment, "FLWR_HOME": str(site / "flwr")},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deployment.started.append(process)
    assert process.wait(timeout=300) != 0
    return said.read_text()


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
    said = until_it_ends(deployment, command, environment, site)
    assert "SuperNode authentication requires a secure TLS connection" in said


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
    own = {"port": port, "metrics_port": 0, "health_port": 0}
    settings = deployment.server.settings().model_copy(update=own)
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


def ask(
    deployment: Deployment, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, str]:
    """One POST to the gate, over TLS."""
    trust = ssl.create_default_context(cafile=str(deployment.server.tls / "ca.crt"))
    port = deployment.server.settings().port
    asked = http.client.HTTPSConnection(HOST, port, timeout=60, context=trust)
    try:
        asked.putrequest("POST", path)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            asked.putheader(name, value)
        asked.endheaders(body or None)
        answer = asked.getresponse()
        return answer.status, answer.read().decode()
    finally:
        asked.close()


POLICY = """
allowed_modes = ["local"]
code_signers = ["{signer}"]
base_weights_sha256 = ["{weights}"]
"""


def one_site_config() -> RunConfig:
    """A run of one round with one site, and a model as small as it can be."""
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=1),
        model=ModelConfig(
            head_dim=4,
            head_items=0,
            lora_layers=1,
            lora_rank=2,
            lora_rows=2,
            popularity_prior=False,
        ),
        privacy=PrivacyConfig(mode="local", targets_per_unit=2, negatives_per_unit=4),
        federation=FederationConfig(rounds=1, min_sites=1, round_deadline_s=120.0, local_lr=0.1),
        evaluation=EvaluationConfig(every=0, metrics="none", companions="", lab=False),
        engine=EngineConfig(threads=1),
    )


@pytest.fixture(scope="module")
def joined(
    deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Generator[tuple[Path, RunningAgent]]:
    """One site that is let in, with its resident agent and its SuperNode."""
    config = one_site_config()
    write_run_config(deployment.server.run_file, config)
    (site,) = write_site_folders(
        synthetic_dataset(users=9), config.data, tmp_path_factory.mktemp("real")
    )
    make_real(site, POLICY.format(signer=deployment.signer, weights="0" * 64))
    sockets = Path(tempfile.mkdtemp(prefix="frd-", dir="/tmp"))
    try:
        path = sockets / "a.sock"
        with resident_agent(site, path, *NO_MODEL) as agent:
            deployment.connect(site, path)
            deployment.add_site(site)
            node = deployment.start_node(site, sockets / "flwr")
            yield site, agent
            node.terminate()
            node.wait()
    finally:
        shutil.rmtree(sockets)


def refused_run(deployment: Deployment, joined: tuple[Path, RunningAgent], code: str) -> str:
    """The line that a whole `flwr run` ends with at the site: in the record, ledger and log."""
    site, agent = joined
    before = set(deployment.server.runs.iterdir())
    said = deployment.run(limit_s=300.0)
    (folder,) = set(deployment.server.runs.iterdir()) - before
    (line,) = [json.loads(each) for each in (folder / "rounds.jsonl").read_text().splitlines()]
    (refusal,) = line["sites"]
    assert (refusal["site"], refusal["status"]) == (site.name, "refused"), said
    reason = str(refusal["reason"])
    assert reason.startswith(f"{code}: ")
    assert reason.isprintable()
    assert reason in agent.log.read_text()
    entries = json.loads(fedrec_site("ledger", "export", "--site", site))["refusals"]
    assert reason == f"{code}: {entries[-1]['record']['reason']}"
    assert json.loads(fedrec_site("ledger", "export", "--site", site))["releases"] == []
    return reason


def test_an_unsigned_and_a_changed_bundle(
    deployment: Deployment, joined: tuple[Path, RunningAgent]
) -> None:
    app = deployment.server.app
    signatures, code = app / SIGNATURES_FILE, app / "client" / "refusal_reply.py"
    signed, written = signatures.read_bytes(), code.read_bytes()
    said = "is neither listed at this site nor signed by a listed key"
    try:
        signatures.unlink()
        assert said in refused_run(deployment, joined, "PolicyRefusal")
        signatures.write_bytes(signed)
        code.write_bytes(written + b"#")  # the signature is now over other code
        assert said in refused_run(deployment, joined, "PolicyRefusal")
    finally:
        signatures.write_bytes(signed)
        code.write_bytes(written)


def test_other_base_weights(deployment: Deployment, joined: tuple[Path, RunningAgent]) -> None:
    """The bundle is the signed one; the site's policy lists other weights than the run's."""
    reason = refused_run(deployment, joined, "PolicyRefusal")
    found = resolve_base_weights(MINILM).sha256
    assert f"base weights with SHA-256 {found} are not allowed at this site" in reason


def test_a_replayed_request_of_a_node(deployment: Deployment, site: Path) -> None:
    """A real SuperNode's requests, as whoever ends its TLS sees them, are made once more."""
    deployment.add_site(site)
    with recording_gate(deployment) as (port, seen):
        command, environment = read_unit(site / "node" / "fedrec-supernode.service")
        command[command.index("--superlink") + 1] = f"{HOST}:{port}"
        environment["FLWR_HOME"] = str(site / "flwr")
        node = deployment.start([*command, "--port", str(free_port())], **environment)
        wait_until(lambda: any("pull-messages" in each.path for each in list(seen)))
        node.terminate()
        node.wait()
    assert all(each.status == http.client.OK for each in seen), seen
    pulled = next(each for each in seen if "pull-messages" in each.path)
    said = f"the request of site {site.name} was made before; a node signs each one anew"
    status, answer = ask(deployment, pulled.path, pulled.headers, pulled.body)
    assert (status, said in answer) == (http.client.SERVICE_UNAVAILABLE, True), answer
    # The same signature under another time, or past the gate at a time long gone: Flower's no.
    later = {**pulled.headers, SIGNED_TIME_HEADER: datetime.now(UTC).isoformat()}
    status, answer = ask(deployment, pulled.path, later, pulled.body)
    assert (status, "Invalid SuperNode authentication" in answer) == (401, True), answer


class Seen(NamedTuple):
    """One request of a node, and the status that it got."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int


@contextmanager
def recording_gate(deployment: Deployment) -> Iterator[tuple[int, list[Seen]]]:
    """A server with the gate's certificate that passes all on to the gate, and writes it down."""
    tls, seen, port = deployment.server.tls, list[Seen](), free_port()
    trust = ssl.create_default_context(cafile=str(tls / "ca.crt"))
    address = f"https://{deployment.address}"

    async def pass_on(request: Request) -> Response:
        headers, body = dict(request.headers), await request.body()
        kept = {name: value for name, value in headers.items() if name.startswith("flwr-")}
        kept["content-type"] = headers.get("content-type", "")
        async with httpx.AsyncClient(base_url=address, verify=trust, timeout=60) as gate:
            answer = await gate.post(request.url.path, headers=kept, content=body)
        seen.append(Seen(request.url.path, kept, body, answer.status_code))
        return Response(
            answer.content,
            answer.status_code,
            media_type=answer.headers.get("content-type", "application/octet-stream"),
        )

    app = Starlette(routes=[Route("/{path:path}", pass_on, methods=["POST"])])
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        ssl_certfile=str(tls / "server.crt"),
        ssl_keyfile=str(tls / "server.key"),
        log_config=None,
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield port, seen
    finally:
        server.should_exit = True
        thread.join()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Until it is so; the test fails where it never is."""
    end = time.monotonic() + START_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_node_s_old_key_once_it_was_replaced(deployment: Deployment, site: Path) -> None:
    deployment.add_site(site)
    old = read_node_key(site / "node" / "node.pub")
    fedrec_site("connect", "--site", site, "--renew")
    assert "unknown node key" in fault_of(site)
    key = site / "node" / "node.pub"
    fedrec_server("add-site", site.name, key, "--replace", "--folder", deployment.server.path)
    connection = read_connection(site)
    assert connection is not None
    assert "the node's key is registered" in check_connection(connection)[1]
    status, said = ask(
        deployment, "/v1/fleet/activate-node", {NODE_KEY_HEADER: b64encode(old).decode()}
    )
    assert status == http.client.PRECONDITION_FAILED
    assert "unknown node key" in said
    # Said again (after the SuperLink's database was lost, say), it changes nothing.
    fedrec_server("add-site", site.name, key, "--replace", "--folder", deployment.server.path)
    assert "the node's key is registered" in check_connection(connection)[1]

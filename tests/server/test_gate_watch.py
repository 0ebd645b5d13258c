"""The gate's metrics and health, on real sockets, beside a SuperLink's stand-in with real TLS."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import grpc
import httpx
import pytest
import uvicorn
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from common.errors import ConfigError
from server.certificates import issue, make_authority
from server.gate import MIB, gate_routes
from server.gate_metrics import GateMetrics, Outcome
from server.gate_watch import watched
from server.probing import Up, what_is_up
from server.run_lock import only_server
from server.server_folder import ServerFolder, ServerSettings, checked_settings
from server.site_keys import SiteKeys
from tests.deployment import free_port
from tests.scripted_sites import crash, refusal
from tests.server.test_certificates import written
from tests.server.test_gate import SUPERLINK, new_key
from tests.server.test_run_status import scripted_run

PLANTED = "alice.planted@example.org"


@pytest.fixture
def folder(tmp_path: Path) -> Generator[ServerFolder]:
    """A server's folder with certificates, and a SuperLink's stand-in that answers behind it."""
    made = ServerFolder(tmp_path / "server")
    for each in (made.tls, made.sites, made.runs):
        each.mkdir(parents=True)
    local = make_authority("this machine")
    written(made.tls, local, "local-ca")
    certificate, key = written(made.tls, issue(local, ["localhost", "127.0.0.1"]), "superlink")
    authority = make_authority("fedrec")
    written(made.tls, authority, "ca")
    written(made.tls, issue(authority, ["fedrec.example.org"]), "server")
    ports = [free_port() for _ in range(4)]
    made.write_settings(
        ServerSettings(
            host="fedrec.example.org",
            listen="127.0.0.1",
            port=ports[0],
            superlink_port=ports[1],
            metrics_port=ports[2],
            health_port=ports[3],
        )
    )
    with served(SUPERLINK, ports[1], certificate, key):
        yield made


@contextmanager
def served(app: Starlette, port: int, certificate: Path, key: Path) -> Iterator[None]:
    """`app` behind TLS, on a real port."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=port,
            ssl_certfile=str(certificate),
            ssl_keyfile=str(key),
            log_config=None,
            lifespan="off",
            ws="none",
            loop="asyncio",
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def scraped(folder: ServerFolder) -> tuple[str, dict[str, Metric]]:
    """The page as Prometheus would get it, and what its own parser makes of it."""
    url = f"http://127.0.0.1:{folder.settings().metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        page = answer.read().decode()
    return page, {family.name: family for family in text_string_to_metric_families(page)}


def values(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    return {tuple(s.labels[label] for label in labels): s.value for s in family.samples}


def health(port: int, service: str) -> str:
    """What a real client of the standard service is told."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        answer = stub.Check(request, timeout=10, wait_for_ready=True)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def until_health(port: int, service: str, wanted: str) -> None:
    end = time.monotonic() + 30
    while health(port, service) != wanted:
        assert time.monotonic() < end, service
        time.sleep(0.05)


def test_requests_are_counted_by_outcome_and_refusals_by_reason(folder: ServerFolder) -> None:
    content, header = new_key()
    (folder.sites / "north.pub").write_bytes(content)
    metrics = GateMetrics()

    async def ask() -> None:
        upstream = httpx.AsyncClient(
            transport=httpx.ASGITransport(SUPERLINK), base_url="http://superlink"
        )
        app = Starlette(routes=gate_routes(upstream, SiteKeys(folder.sites), MIB, metrics))
        inner = httpx.ASGITransport(app)
        async with upstream, httpx.AsyncClient(transport=inner, base_url="http://gate") as client:
            await client.post("/v1/fleet/pull-messages", headers=header, content=b"abc")
            await client.post("/v1/fleet/pull-messages", content=PLANTED.encode())
            await client.post("/v1/fleet/push-object", headers=header, content=bytes(MIB + 1))
            await client.post(f"/v1/control/{PLANTED}")

    asyncio.run(ask())
    with watched(folder, folder.settings(), metrics):
        page, found = scraped(folder)
    counted = values(found["fedrec_gate_requests"], "outcome")
    expected = {(outcome,): 0.0 for outcome in get_args(Outcome)}
    for outcome in ("passed", "unknown_key", "too_large", "not_for_sites"):
        expected[(outcome,)] = 1.0
    assert counted == expected
    assert values(found["fedrec_gate_received_bytes"])[()] == 3
    assert values(found["fedrec_gate_sent_bytes"])[()] > 0
    last = values(found["fedrec_gate_site_last_request_timestamp_seconds"], "site")
    assert time.time() - last[("north",)] < 60
    expires = values(found["fedrec_gate_certificate_expiry_timestamp_seconds"])[()]
    assert 300 * 86400 < expires - time.time() < 400 * 86400
    assert PLANTED not in page


def test_the_current_run_is_on_the_page(folder: ServerFolder) -> None:
    scripted_run(folder.runs / "week-1", {1: refusal(reason=PLANTED), 2: crash}, min_sites=1)
    with watched(folder, folder.settings(), GateMetrics()):
        page, found = scraped(folder)
    states = values(found["fedrec_run_state"], "run", "state")
    assert [state for (_, state), is_so in states.items() if is_so] == ["finished"]
    assert values(found["fedrec_run_round"], "run") == {("week-1",): 2.0}
    assert values(found["fedrec_run_rounds"], "run") == {("week-1",): 2.0}
    assert 0 <= values(found["fedrec_run_seconds_since_last_round"], "run")[("week-1",)] < 600
    sites = values(found["fedrec_run_sites"], "status")
    assert sites == {("ok",): 1, ("refused",): 1, ("error",): 1, ("non_finite",): 0}
    assert values(found["fedrec_run_site_epsilon_spent"], "site") == {("site-0000",): 0.5}
    assert values(found["fedrec_run_site_refusals"], "site")[("site-0001",)] == 2
    assert PLANTED not in page  # what a site writes as its reason is for `status` alone


def test_health_follows_superlink_and_run(folder: ServerFolder) -> None:
    settings = folder.settings()
    scripted_run(folder.runs / "week-1", {})
    with watched(folder, settings, GateMetrics(), every_s=0.05):
        for service in ("gate", "superlink", ""):
            until_health(settings.health_port, service, "SERVING")
        until_health(settings.health_port, "run", "NOT_SERVING")
        with only_server(folder.runs / "week-1"):
            until_health(settings.health_port, "run", "SERVING")
        until_health(settings.health_port, "run", "NOT_SERVING")
        with pytest.raises(grpc.RpcError) as fault:
            health(settings.health_port, "nothing")
        assert fault.value.code() == grpc.StatusCode.NOT_FOUND
        assert values(scraped(folder)[1]["fedrec_superlink_up"])[()] == 1
    assert what_is_up(folder, settings) == Up(gate=False, superlink=True)
    certificate, key = folder.tls / "server.crt", folder.tls / "server.key"
    with served(SUPERLINK, settings.port, certificate, key):
        assert what_is_up(folder, settings) == Up(gate=True, superlink=True)
    # Whoever else answers at the gate's port, without its certificate, is not the gate.
    certificate, key = folder.tls / "superlink.crt", folder.tls / "superlink.key"
    with served(SUPERLINK, settings.port, certificate, key):
        assert what_is_up(folder, settings) == Up(gate=False, superlink=True)


def test_a_superlink_that_is_away_is_not_serving(folder: ServerFolder) -> None:
    away = folder.settings().model_copy(update={"superlink_port": free_port()})
    metrics = GateMetrics()
    with watched(folder, away, metrics, every_s=0.05):
        until_health(away.health_port, "gate", "SERVING")
        assert health(away.health_port, "superlink") == "NOT_SERVING"
        assert health(away.health_port, "") == "NOT_SERVING"
        assert values(scraped(folder)[1]["fedrec_superlink_up"])[()] == 0


def test_a_port_that_is_taken_is_one_fault_and_none_is_no_fault(folder: ServerFolder) -> None:
    settings = folder.settings()
    with watched(folder, settings, GateMetrics()):
        with pytest.raises(ConfigError, match=f"metrics_port={settings.metrics_port} on 127"):
            watched(folder, settings, GateMetrics()).__enter__()
        other = settings.model_copy(update={"metrics_port": 0})
        with pytest.raises(ConfigError, match=f"health_port={settings.health_port} on 127"):
            watched(folder, other, GateMetrics()).__enter__()
        neither = other.model_copy(update={"health_port": 0})
        with watched(folder, neither, GateMetrics()):
            pass


def test_a_damaged_run_leaves_the_rest_of_the_page(
    folder: ServerFolder, caplog: pytest.LogCaptureFixture
) -> None:
    scripted_run(folder.runs / "week-1", {})
    (folder.runs / "week-1" / "rounds.jsonl").write_text("{}\nno json\n{}\n")
    with watched(folder, folder.settings(), GateMetrics()), caplog.at_level(logging.WARNING):
        _, found = scraped(folder)
    assert "fedrec_gate_requests" in found
    assert "fedrec_run_state" not in found
    assert re.search(r"metrics: .*rounds\.jsonl", caplog.text)


def test_ports_must_differ() -> None:
    with pytest.raises(ConfigError, match="metrics_port and health_port must differ"):
        checked_settings(host="x", metrics_port=9092)
    assert checked_settings(host="x", metrics_port=0, health_port=0).metrics_port == 0

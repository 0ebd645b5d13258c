"""What can be seen of a whole deployment: status, metrics, health and logs, by real clients."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from client.monitor import Figures
from tests.deployment import Deployment, fedrec_server


def check_seen(
    deployment: Deployment, names: list[str], rounds: int, figures: list[Path], said: str
) -> None:
    """A run that finished well is seen as such, everywhere; `said` is its log stream."""
    told = json.loads(fedrec_server("status", "--folder", deployment.server.path, "--json"))
    assert (told["gate"], told["superlink"]) == (True, True)
    assert (told["run"]["state"], told["run"]["server_round"]) == ("finished", rounds)
    sites = {site["site"]: site for site in told["run"]["sites"]}
    assert sorted(sites) == sorted(names)
    assert all(site["listed"] and site["last_ok"] == rounds for site in sites.values()), sites

    settings = deployment.server.settings()
    url = f"http://127.0.0.1:{settings.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        page = answer.read().decode()
    found: dict[tuple[str, ...], float] = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    run = told["run"]["run"]
    assert found["fedrec_superlink_up",] == 1
    assert found["fedrec_run_state", run, "finished"] == 1
    assert found["fedrec_gate_requests_total", "passed"] > 0
    for name, site in sites.items():
        assert found["fedrec_run_site_epsilon_spent", run, name] == site["epsilon_spent"] > 0
        assert found["fedrec_run_site_epsilon_left", run, name] == site["epsilon_left"]
        assert found["fedrec_gate_site_last_request_timestamp_seconds", name] > 0
    with grpc.insecure_channel(f"127.0.0.1:{settings.health_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("gate", "superlink", ""):
            request = health_pb2.HealthCheckRequest(service=service)
            state = stub.Check(request, timeout=30).status
            assert state == health_pb2.HealthCheckResponse.SERVING, service
    assert all(Figures(path).is_well() for path in figures)

    lines = [line for line in logged(said) if line["logger"] == "flwr.fedrec"]
    ended = [line for line in lines if "sites_ok" in line]
    assert [line["server_round"] for line in ended] == [*range(1, rounds + 1)]
    assert {line["sites_ok"] for line in ended} == {len(names)}
    relayed = {line["message_type"] for line in lines if "message_type" in line}
    assert {"query.enrol", "query.sum"} <= relayed


def logged(said: str) -> list[dict[str, Any]]:
    """The lines of ours in a log that Flower's processes write to, too."""
    starts = '{"level": '
    return [json.loads(line[line.index(starts) :]) for line in said.splitlines() if starts in line]

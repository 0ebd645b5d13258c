"""A site's figures, from the agent's file to Prometheus and to a client of gRPC's health."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from client.cli import main
from client.monitor import STALE_S, Figures, monitor_site
from client.resident.heartbeat import Heartbeat, figures_file
from client.resident.ledger_look import LedgerLook
from client.resident.protocol import Request, RequestHead, content_to_bytes
from client.resident.site import ResidentSite
from client.resident.site_metrics import SiteMetrics
from common.config import DataConfig, FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import ConfigError
from common.messages import PopularityRequest, encode_popularity_request
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.deployment import free_port
from tests.own_process import in_own_process

CONFIG = RunConfig(
    data=DataConfig(dataset="synthetic", sites=2),
    model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
    privacy=PrivacyConfig(mode="local", targets_per_unit=3, negatives_per_unit=6),
    federation=FederationConfig(rounds=2, local_lr=0.1),
)


PLANTED = "alice.planted@example.org"


def plant(site: Path) -> None:
    """Gives one user of a site an id that must be seen nowhere."""
    first = pq.read_table(site / "users.parquet")["user_id"][0].as_py()
    for name in ("users.parquet", "interactions.parquet"):
        table = pq.read_table(site / name)
        ids = [PLANTED if each == first else each for each in table["user_id"].to_pylist()]
        place = table.schema.get_field_index("user_id")
        pq.write_table(table.set_column(place, "user_id", pa.array(ids)), site / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = write_site_folders(synthetic_dataset(), CONFIG.data, tmp_path / "sites")
    plant(made[0])
    (made[0] / "policy.toml").write_text("max_epsilon = 20.0\nmax_delta = 1e-3\n")
    return made[0]


def ask(site: ResidentSite, kind: str = "query.popularity", run: str = "run") -> None:
    content = encode_popularity_request(PopularityRequest(run, CONFIG.sha256()))
    head = RequestHead(message_type=kind, group="0", run_config=CONFIG.to_flat())
    site.answer(Request(head, content_to_bytes(content)))


def served(site: Path, figures: Path) -> tuple[ResidentSite, SiteMetrics, Heartbeat]:
    """What `client.resident.run` puts together, without the socket."""
    metrics = SiteMetrics("north")
    resident = ResidentSite(site, metrics.answered)
    metrics.declared(resident.data.declared_units, resident.policy, 1_700_000_000.5)
    metrics.tested("passed")
    heartbeat = Heartbeat(figures, metrics, every_s=0.05)
    heartbeat.serve(LedgerLook(resident.ledger, resident.policy).tell)
    return resident, metrics, heartbeat


def samples(text: str) -> dict[str, float]:
    """Values by sample, without the site's own label."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = [value for label, value in sample.labels.items() if label != "site"]
            found[" ".join([sample.name, *labels])] = sample.value
    return found


@contextmanager
def monitored(figures: Path) -> Iterator[tuple[Callable[[], dict[str, float]], Callable[..., str]]]:
    """A monitor on real ports; gives what is scraped, and what a health client is told."""
    metrics_port, health_port, has_ended = free_port(), free_port(), threading.Event()
    thread = threading.Thread(
        target=monitor_site,
        args=(figures, metrics_port, health_port),
        kwargs={"every_s": 0.05, "has_ended": has_ended},
    )
    thread.start()

    def health(wanted: str, service: str = "agent") -> str:
        """The state, once it is as wanted, or after a while."""
        end, state = time.monotonic() + 30, ""
        with grpc.insecure_channel(f"127.0.0.1:{health_port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < end and state != wanted:
                request = health_pb2.HealthCheckRequest(service=service)
                found = stub.Check(request, timeout=10, wait_for_ready=True).status
                state = health_pb2.HealthCheckResponse.ServingStatus.Name(found)
                time.sleep(0.02)
        return str(state)

    def scraped() -> dict[str, float]:
        url = f"http://127.0.0.1:{metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return samples(answer.read().decode())

    try:
        health("NOT_SERVING")  # until it is there
        yield scraped, health
    finally:
        has_ended.set()
        thread.join()


def test_figures_are_budget_answers_and_refusals_and_nothing_of_a_user(
    folder: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "north.prom"
    site, _, heartbeat = served(folder, figures)
    before = samples(figures.read_text())
    assert before["fedrec_site_epsilon_spent"] == 0
    ask(site)
    ask(site, f"query.{PLANTED}", run=PLANTED)
    (folder / "policy.toml").write_text("")  # read at the start alone
    heartbeat.beat()
    text = figures.read_text()
    found = samples(text)
    spent = site.ledger.epsilon(1e-3)
    assert 0 < spent < 20
    assert found["fedrec_site_epsilon_spent"] == pytest.approx(spent)
    assert found["fedrec_site_epsilon_left"] == pytest.approx(20 - spent)
    assert (found["fedrec_site_epsilon_limit"], found["fedrec_site_delta"]) == (20, 1e-3)
    assert found["fedrec_site_declared_units"] == site.data.declared_units
    assert found["fedrec_site_source_refreshed_timestamp_seconds"] == 1_700_000_000
    assert found["fedrec_site_answers_total popularity answered"] == 1
    assert found["fedrec_site_answers_total other refused"] == 1
    assert found["fedrec_site_refusals_total MessageError"] == 1
    assert found["fedrec_site_last_answer_timestamp_seconds"] % 60 == 0
    assert (found["fedrec_site_self_test passed"], found["fedrec_site_self_test pending"]) == (1, 0)
    assert (found["fedrec_site_serving"], found["fedrec_site_ledger_ok"]) == (1, 1)
    assert site.data.users.user_ids[-1] == PLANTED
    assert PLANTED not in text
    assert str(folder) not in text
    assert figures.stat().st_mode & 0o777 == 0o644


def test_a_ledger_that_was_set_back_stops_the_service_and_says_so_once(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    figures = tmp_path / "north.prom"
    site, _, heartbeat = served(folder, figures)
    kept = site.ledger.path.read_bytes(), site.ledger.anchor.path
    ask(site)
    for suffix in ("-wal", "-shm"):
        Path(f"{site.ledger.path}{suffix}").unlink(missing_ok=True)
    site.ledger.path.write_bytes(kept[0])
    for _ in range(3):
        heartbeat.beat()
    found = samples(figures.read_text())
    assert (found["fedrec_site_serving"], found["fedrec_site_ledger_ok"]) == (0, 0)
    assert caplog.text.count("rollback: ledger") == 1
    site.ledger.path.unlink()
    heartbeat.beat()
    assert not site.ledger.path.exists()  # looking made none
    assert samples(figures.read_text())["fedrec_site_ledger_ok"] == 0


def test_health_follows_the_agent(folder: Path, tmp_path: Path) -> None:
    figures = figures_file(tmp_path / "north.sock")
    with monitored(figures) as (scraped, health):
        assert scraped() == {"fedrec_site_up": 0.0}
        assert health("NOT_SERVING") == "NOT_SERVING"
        starting = Heartbeat(figures, SiteMetrics("north"), every_s=0.05)
        with starting.beating():  # before the self-test has passed
            assert scraped()["fedrec_site_self_test pending"] == 1
            assert health("NOT_SERVING") == "NOT_SERVING"
        assert not figures.exists()
        site, _, heartbeat = served(folder, figures)
        with heartbeat.beating():
            assert health("SERVING") == "SERVING"
            assert health("SERVING", service="") == "SERVING"
            ask(site)
            end = time.monotonic() + 30
            while scraped().get("fedrec_site_answers_total popularity answered") != 1:
                assert time.monotonic() < end
            assert scraped()["fedrec_site_up"] == 1
        assert health("NOT_SERVING") == "NOT_SERVING"  # it ended


def test_figures_of_an_agent_that_was_killed_are_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures, metrics = tmp_path / "north.prom", SiteMetrics("north")
    metrics.write(figures)
    assert Figures(figures).read()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + STALE_S + 2)
    assert not Figures(figures).read()
    monkeypatch.undo()
    for content in (b"no figures {", b"\xff\xfe", b"", b"fedrec_site_serving 1\n"):
        figures.write_bytes(content)
        assert not Figures(figures).read(), content
    metrics.write(figures)
    with figures.open("a") as file:
        file.write("other_metric 1\n")
    assert "other_metric" not in {family.name for family in Figures(figures).read()}


def test_a_disk_that_refuses_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heartbeat = Heartbeat(tmp_path / "away" / "north.prom", SiteMetrics("north"))
    for _ in range(3):
        heartbeat.beat()
    assert caplog.text.count("the file of figures cannot be written") == 1
    (tmp_path / "away").mkdir()
    heartbeat.beat()
    assert os.listdir(tmp_path / "away") == ["north.prom"]


def test_bad_ports_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="are both 9000"):
        monitor_site(tmp_path / "x.prom", 9000, 9000)
    command = in_own_process(main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)
    code, _, err = command("monitor", "--figures", tmp_path / "x.prom", "--metrics-port", "70000")
    assert code == 2
    assert "70000" in err

"""`fedrec-site recommend` and `serve` as an operator meets them."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import grpc
import pyarrow.parquet as pq
import pytest

from benchmarks.serving.killing import kill_under_load
from benchmarks.serving.made_site import install, make_site
from benchmarks.serving.process import running
from client.cli import main
from client.serving import serving_pb2 as pb
from client.serving.rpc import client
from client.source.pseudonyms import load_pseudonyms
from common.site_folder import MANIFEST_FILE
from tests.client.serving.conftest import CONFIG, DATASET
from tests.own_process import Command, in_own_process
from tests.resident_agents import fedrec_site as in_a_process

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

IDS = DATASET.catalogue.item_ids


@pytest.fixture
def fedrec_site(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_own_process(main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)


def test_a_list_for_people_and_for_machines(fedrec_site: Command, shared_site: Path) -> None:
    asked = ("recommend", "--site", shared_site, "--item", IDS[3], "--item", IDS[8], "--k", "4")
    code, out, err = fedrec_site(*asked, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["adapter"].startswith("0001-")
    assert len(found["items"]) == 4
    code, out, _ = fedrec_site(*asked, "--why")
    assert code == 0
    assert out.count("in the history") == 4
    for place, item in enumerate(found["items"], start=1):
        assert f"{place}. {item['title']}  [{item['item_id']}]  {item['score']:.3f}" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--user", "nobody"), "user 'nobody' is not known"),
        (("--new-user", "--k", "0"), "k must be between 1 and 80"),
        (("--new-user", "--k", "81"), "k must be between 1 and 80"),
        ((), "exactly one of --user, --item and --new-user"),
    ],
)
def test_a_fault_is_one_line(
    fedrec_site: Command, shared_site: Path, options: tuple[str, ...], words: str
) -> None:
    code, out, err = fedrec_site("recommend", "--site", shared_site, *options)
    assert code == 2
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_without_an_adapter_it_says_how_to_get_one(fedrec_site: Command, tmp_path: Path) -> None:
    site = make_site(DATASET, CONFIG, tmp_path / "sites")
    code, _, err = fedrec_site("recommend", "--site", site, "--new-user")
    assert code == 2
    assert "install one with `fedrec-site install-adapter`" in err


def test_users_of_a_refreshed_site_are_asked_for_by_their_own_id(
    fedrec_site: Command, site: Path, exports: list[tuple[Path, str]]
) -> None:
    (site / "keys").mkdir(mode=0o700, exist_ok=True)
    pseudonyms = load_pseudonyms(site / "keys", begin=True)
    for name in ("interactions.parquet", "users.parquet"):
        table = pq.read_table(site / name)
        ids = [pseudonyms.of(user) for user in table["user_id"].to_pylist()]
        place = table.column_names.index("user_id")
        pq.write_table(table.set_column(place, "user_id", [ids]), site / name)
    manifest = json.loads((site / MANIFEST_FILE).read_text())
    known = DATASET.interactions.user_ids
    manifest["population"] = pseudonyms.population
    (site / MANIFEST_FILE).write_text(json.dumps(manifest))
    answers = [fedrec_site("recommend", "--site", site, "--user", user, "--json") for user in known]
    assert sorted(code for code, _, _ in answers) == [0] * 30 + [2] * 30  # the rest is elsewhere
    raw_user = known[[code for code, _, _ in answers].index(0)]
    code, _, err = fedrec_site("recommend", "--site", site, "--user", pseudonyms.of(raw_user))
    assert code == 2
    assert "is not known" in err


@pytest.mark.slow
@pytest.mark.e2e
def test_killed_under_load_it_loses_no_feedback_and_sigterm_ends_it_in_order(
    site: Path, exports: list[tuple[Path, str]]
) -> None:
    with running(site) as service:
        losses = kill_under_load(service, ["one", "two", "three"], IDS[:30], kills=2, every=1.0)
        assert losses.answered == losses.sent == losses.recorded > 20
        assert losses.retries > 0
        second = in_a_process("serve", "--site", site, "--listen", "127.0.0.1:0")
        assert second.returncode == 2
        assert "is served by another agent" in second.stderr
        install(exports[1], site, DATASET, CONFIG)
        with grpc.insecure_channel(service.address) as channel:
            ask = client(channel)
            for _ in range(600):
                info = ask.ModelInfo(pb.ModelInfoRequest(), metadata=service.metadata)
                if info.adapter.startswith("0002-"):
                    break
                time.sleep(0.1)
            assert info.adapter.startswith("0002-")
        assert service.end(signal.SIGTERM) == 0
        assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
@pytest.mark.e2e
def test_a_policy_that_explores_is_served_logged_and_judged(
    site: Path, fedrec_site: Command
) -> None:
    both = in_a_process("serve", "--site", site, "--policy", "thompson", "--rerank", "mmr:0.5")
    assert both.returncode == 2
    assert "--rerank mmr:0.5 would change" in both.stderr
    with running(site, "--policy", "epsilon_greedy") as service:
        with grpc.insecure_channel(service.address) as channel:
            ask = client(channel)
            info = ask.ModelInfo(pb.ModelInfoRequest(), metadata=service.metadata)
            assert info.policy == "epsilon_greedy"
            for number in range(30):
                user = f"visitor-{number}"
                asked = pb.RecommendRequest(visitor=pb.Visitor(), k=5)
                shown = ask.Recommend(asked, metadata=service.metadata)
                assert all(0 < offer.propensity <= 1 for offer in shown.items)
                told = pb.FeedbackRequest(
                    request_id=user,
                    user=user,
                    item_id=shown.items[0].item_id,
                    kind=pb.FeedbackRequest.TAKEN,
                    recommendation_id=shown.recommendation_id,
                )
                ask.Feedback(told, metadata=service.metadata)
        assert service.end(signal.SIGTERM) == 0
        assert "Traceback" not in service.log.read_text()
    asked = ("off-policy", "--site", site, "--policy", "greedy", "--settle-seconds", "0", "--json")
    code, out, err = fedrec_site(*asked)
    assert code == 0, err
    found = json.loads(out)
    assert found["lists"] == 30
    assert found["logged_by"] == ["epsilon_greedy"]
    assert found["estimates"]["observed"]["mean"] == pytest.approx(1.0)

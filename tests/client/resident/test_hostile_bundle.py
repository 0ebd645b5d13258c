"""A bundle whose client asks for everything and checks nothing, through Flower's own runtime.

A real SuperLink, a real SuperNode and a real `fedrec-site run`. As root, the bundle's code
acts as a user of its own, as a deployment has it; without root both are one user, and only
what the file system would keep from it is not looked at.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from client.resident.relay import relay
from common.accounting import epsilon
from common.app_staging import stage_app, write_run_config
from common.config import DataConfig, FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.messages import (
    PopularityRequest,
    decode_refusal,
    encode_popularity_request,
    is_refusal,
)
from common.privacy_events import event_from_dict
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.resident_agents import (
    deployed_federation,
    fedrec_site,
    make_real,
    resident_agent,
    run_bundle,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

UID = 54321
HOSTILE = Path(__file__).parent / "hostile_bundle"
IS_ROOT = os.geteuid() == 0
MAX_EPSILON, MAX_DELTA = 4.0, 1e-4
POLICY = f"""
max_epsilon = {MAX_EPSILON}
max_delta = {MAX_DELTA}
allowed_modes = ["local"]
min_noise_multiplier = 0.5
relay_users = [{UID}]
"""
CONFIG = RunConfig(
    data=DataConfig(dataset="synthetic", sites=2),
    model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
    privacy=PrivacyConfig(
        mode="local",
        target_epsilon=2.0,
        targets_per_unit=3,
        negatives_per_unit=6,
        noise_multiplier=5.0,
        popularity_noise_multiplier=6.0,
    ),
    federation=FederationConfig(rounds=1, local_lr=0.1),
)


class Aftermath(NamedTuple):
    """What the attack got, and what it left at the site."""

    loot: dict[str, Any]
    export: dict[str, Any]
    verified: str
    log: str
    honest: str


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Aftermath:
    folder = tmp_path_factory.mktemp("hostile")
    sites = write_site_folders(synthetic_dataset(), CONFIG.data, folder / "sites")
    for site in sites:
        make_real(site, POLICY)
    short_folder.chmod(0o711)
    open_folder = short_folder / "loot"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    path = short_folder / "hostile" / "a.sock"
    scenario = str(write_run_config(folder / "scenario.toml", CONFIG))
    group = str(UID if IS_ROOT else os.getegid())
    with resident_agent(sites[0], path, "--group", group, "--scenario", scenario) as agent:
        loot = attacked(folder, path, sites, open_folder / "loot.json")
        honest = relayed(path)
        assert agent.end() == 0
        log = agent.log.read_text()
    export = fedrec_site("ledger", "export", "--site", sites[0])
    verified = fedrec_site("ledger", "verify", "--site", sites[0])
    assert export.returncode == 0, export.stderr
    return Aftermath(
        loot, json.loads(export.stdout), verified.stdout + verified.stderr, log, honest
    )


def attacked(folder: Path, path: Path, sites: list[Path], loot: Path) -> dict[str, Any]:
    (folder / "app").mkdir()
    app = stage_app(folder / "app")
    for package in ("client", "server"):
        shutil.rmtree(app / package)
        shutil.copytree(HOSTILE / package, app / package)
    node = f'agent-socket="{path}" own="{sites[0]}" other="{sites[1]}" loot="{loot}" uid={UID}'
    with deployed_federation([node], {}) as superlink:
        said = run_bundle(superlink, app, CONFIG)
    assert loot.exists(), said[-4000:]
    found: dict[str, Any] = json.loads(loot.read_text())
    assert "broke" not in found, found["broke"]
    return found


def relayed(path: Path) -> str:
    """The agent still answers; the budget is gone, so its answer is a refusal."""
    content = encode_popularity_request(PopularityRequest("late", CONFIG.sha256()))
    reply = relay(str(path), "query.popularity", "0", content, CONFIG.to_flat())
    return decode_refusal(reply, server_round=0).code if is_refusal(reply) else "answered"


REFUSED = {
    "exact update": ("PolicyRefusal", "privacy.mode=none is not allowed"),
    "seeded noise": ("PolicyRefusal", "insecure_seeded_noise"),
    "exact metrics": ("PolicyRefusal", "exact metrics may not leave"),
    "popularity with tiny noise": ("PolicyRefusal", "below the site's least"),
    "update with little noise": ("BudgetRefusal", "over its limit"),
    "weights of another site": ("PolicyRefusal", "is a path"),
    "weights of a system folder": ("PolicyRefusal", "is a path"),
    "unknown message": ("MessageError", "no messages of type"),
    "after": ("BudgetRefusal", "over its limit"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_the_policy_does_not_allow_is_refused(aftermath: Aftermath, name: str) -> None:
    code, said = REFUSED[name]
    got = aftermath.loot[name]
    assert (got.get("kind"), got.get("code")) == ("refusal", code)
    assert said in got["reason"]
    assert got["arrays"] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("oversized frame", "the limit is"),
        ("garbage", "a frame begins with"),
        ("another node config", "node_config"),
        ("stated code hash", "code_sha256"),
    ],
)
def test_what_is_no_request_gets_one_line(aftermath: Aftermath, name: str, said: str) -> None:
    got = aftermath.loot[name]
    assert set(got) == {"fault"}
    assert said in got["fault"]


def test_what_the_policy_allows_is_this_sites_and_noised(aftermath: Aftermath) -> None:
    for name in ("another site's folder", "honest update"):
        got = aftermath.loot[name]
        assert got["site"] == "site-0000"
        record = json.loads(got["release"])
        assert record["event"]["noise_multiplier"] >= 5.0
        assert not record["insecure_seeded_noise"]


def test_fresh_names_of_runs_spend_one_budget_until_it_is_gone(aftermath: Aftermath) -> None:
    kinds = [got["kind"] for got in aftermath.loot["runs"]]
    given = kinds.count("popularity_reply")
    assert 1 <= given < len(kinds)
    assert kinds == ["popularity_reply"] * given + ["refusal"] * (len(kinds) - given)
    assert aftermath.honest == "BudgetRefusal"


def test_the_total_is_within_the_policy_by_the_ledgers_own_export(aftermath: Aftermath) -> None:
    events = [event_from_dict(each["event"]) for each in aftermath.export["releases"]]
    total = epsilon(tuple(events), MAX_DELTA)
    assert 0.8 * MAX_EPSILON < total <= MAX_EPSILON
    got = [got for name, got in aftermath.loot.items() if isinstance(got, dict)]
    answered = [each for each in [*got, *aftermath.loot["runs"]] if each.get("release")]
    assert len(answered) == len(events)  # nothing left that the ledger does not know


def test_every_refusal_is_in_the_ledger_which_verifies(aftermath: Aftermath) -> None:
    found = Counter(each["kind"] for each in aftermath.export["refusals"])
    assert found["refusal:update:PolicyRefusal"] >= 1
    assert found["refusal:metrics:PolicyRefusal"] == 1
    assert found["refusal:query.popularity:PolicyRefusal"] >= 1
    refused_runs = [got for got in aftermath.loot["runs"] if got["kind"] == "refusal"]
    assert found["refusal:popularity:BudgetRefusal"] == len(refused_runs) + 1  # and the honest one
    reasons = {each["record"]["reason"] for each in aftermath.export["refusals"]}
    for name, (code, _) in REFUSED.items():
        if code != "MessageError":
            assert aftermath.loot[name]["reason"] in reasons, name
    assert "the ledger is whole" in aftermath.verified


def test_the_file_system_keeps_the_site_from_the_bundle(aftermath: Aftermath) -> None:
    if IS_ROOT:
        assert set(aftermath.loot["files"].values()) == {"PermissionError"}
        assert aftermath.loot["policy"] == "PermissionError"
    else:  # one user for both, which `fedrec-site run` warns of
        assert len(aftermath.loot["files"]) == 8


def test_nothing_of_it_broke_the_agent(aftermath: Aftermath) -> None:
    assert "Traceback" not in aftermath.log
    assert "SIGTERM: the agent ends" in aftermath.log

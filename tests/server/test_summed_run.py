"""Whole runs of secure sums that lose sites: who cannot pay is left out, the rest go on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import client.site_by_site
from client.agent import forget_agents
from common.adapters import Adapter
from common.config import RunConfig
from common.errors import FederationError
from common.initial_adapter import initial_adapter
from common.progress import SilentListener
from common.run_folder import RunFolder
from server.round_loop import run_rounds
from server.run_records import RunRecords
from server.strategy import FederatedAdapters
from tests.sum_federation import LossyGrid, SumFederation, fresh_copy, sum_config, written_sites

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]
LIMITS = {"max_dropouts": 1, "max_colluders": 0, "insecure_seeded_noise": False}
POOR = "max_epsilon = {}\nmax_delta = 1e-4\nallowed_modes = ['distributed', 'central']\n{}"


@pytest.fixture(autouse=True)
def no_agents_are_left() -> Any:
    yield
    forget_agents()


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_sites(tmp_path_factory.mktemp("four") / "sites", 4)


def quick_config(sites: Path, **changed: Any) -> RunConfig:
    config = sum_config(sites, 4, rounds=changed.pop("rounds", 2), **(LIMITS | changed))
    evaluation = config.evaluation.model_copy(update={"every": 0})
    return config.model_copy(update={"evaluation": evaluation})


class Run:
    """One run in this process, without the app around it."""

    def __init__(self, config: RunConfig, path: Path, name: str = "run") -> None:
        self.config, self.path, self.name = config, path, name
        self.grid = LossyGrid(config)
        self.adapter: Adapter = {}

    def go(self) -> None:
        strategy = FederatedAdapters(
            self.config, self.name, initial_adapter(self.config), SilentListener()
        )
        records = RunRecords.start(self.path, self.config, self.name)
        try:
            run_rounds(self.grid, strategy, records, SilentListener())
        finally:
            self.adapter = strategy.adapter

    def status(self) -> dict[int, dict[str, str]]:
        rounds = RunFolder.open(self.path).read_rounds()
        return {
            r["server_round"]: {site["site"]: site["status"] for site in r["sites"]} for r in rounds
        }


def poor(sites: Path, site: str, max_epsilon: float, more: str = "min_colluders = 0\n") -> None:
    """Gives a site a budget of its own; peers are the lab's, as the site is simulated."""
    (sites / site / "policy.toml").write_text(
        POOR.format(max_epsilon, more) + "allow_exact_metrics = true\n"
        "allowed_releases = ['update', 'popularity', 'metrics']\n"
    )


def test_a_site_that_cannot_pay_refuses_first_trains_nothing_and_is_left_out(
    four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = fresh_copy(four, tmp_path / "sites")
    poor(sites, "site-0002", 3.0)  # enough for popularity (2.6), for no round after it
    run = Run(quick_config(sites), tmp_path / "run")
    trained: list[int] = []
    real = client.site_by_site.sampled_unit_sum

    def observed(recommender: Any, units: Any, *arguments: Any, **named: Any) -> Any:
        trained.append(int(run.grid.at_work[-4:]))
        return real(recommender, units, *arguments, **named)

    monkeypatch.setattr(client.site_by_site, "sampled_unit_sum", observed)
    run.go()
    good = dict.fromkeys([f"site-{at:04d}" for at in range(4)], "ok")
    without = {site: state for site, state in good.items() if site != "site-0002"}
    assert run.status() == {0: good, 1: {**good, "site-0002": "refused"}, 2: without}
    assert trained == [0, 1, 3, 0, 1, 3]
    records = RunFolder.open(run.path).read_rounds()
    (line,) = (each for each in records[1]["sites"] if each["site"] == "site-0002")
    assert line["reason"].startswith("BudgetRefusal:")
    assert line["bytes_up"] == 0  # it did not even send its keys
    stages = [
        asked["stage"]
        for asked, _ in run.grid.seen
        if asked["kind"] == "sum_request" and asked["server_round"] == 2
    ]
    assert len(stages) == 3 * 5
    federation = SumFederation(run.config)
    ledger = federation.agent("site-0002").ledger
    assert len(ledger.history()) == 1
    (entry,) = ledger.export()["refusals"]
    assert entry["record"]["error"] == "BudgetRefusal"
    assert ledger.epsilon(1e-4) <= 3.0


def test_when_too_few_can_pay_the_run_ends_with_its_records(four: Path, tmp_path: Path) -> None:
    sites = fresh_copy(four, tmp_path / "sites")
    for site in ("site-0001", "site-0002"):
        poor(sites, site, 3.0)
    run = Run(quick_config(sites), tmp_path / "run")
    with pytest.raises(
        FederationError, match="0 of 4 sites gave a usable answer to round 1"
    ) as end:
        run.go()
    assert "\n" not in str(end.value)
    status = run.status()
    assert set(status) == {0, 1}
    assert set(status[0].values()) == {"ok"}
    assert [site for site, state in status[1].items() if state == "refused"] == [
        "site-0001",
        "site-0002",
    ]
    releases = RunFolder.open(run.path).read_releases()
    assert len(releases) == 4
    charges = [
        len(SumFederation(run.config).agent(f"site-{at:04d}").ledger.history()) for at in range(4)
    ]
    assert charges == [1, 1, 1, 1]


def test_a_site_whose_policy_forbids_the_run_is_on_record_and_the_rest_go_on(
    four: Path, tmp_path: Path
) -> None:
    sites = fresh_copy(four, tmp_path / "sites")
    (sites / "site-0003" / "policy.toml").write_text("allowed_modes = ['local']\n")
    run = Run(quick_config(sites, rounds=1), tmp_path / "run")
    run.go()
    status = run.status()
    assert status[0]["site-0003"] == "refused"
    assert [state for site, state in status[0].items() if site != "site-0003"] == ["ok"] * 3
    assert "site-0003" not in status[1]
    (line,) = (
        each
        for each in RunFolder.open(run.path).read_rounds()[0]["sites"]
        if each["site"] == "site-0003"
    )
    assert "allow it by name" in line["reason"]


def test_a_run_in_which_too_few_enrol_ends_with_their_reasons_on_record(
    four: Path, tmp_path: Path
) -> None:
    sites = fresh_copy(four, tmp_path / "sites")
    (sites / "site-0003" / "policy.toml").write_text("allowed_modes = ['local']\n")
    shutil.rmtree(sites / "site-0002")
    run = Run(quick_config(sites), tmp_path / "run")
    with pytest.raises(FederationError, match="2 of 4 sites gave a usable answer"):
        run.go()
    (only,) = RunFolder.open(run.path).read_rounds()
    assert only["server_round"] == 0
    assert sorted(site["status"] for site in only["sites"]) == ["error", "ok", "ok", "refused"]
    assert RunFolder.open(run.path).read_releases() == []


def test_an_abandoned_round_costs_what_left_and_the_run_goes_on(four: Path, tmp_path: Path) -> None:
    sites = fresh_copy(four, tmp_path / "sites")
    run = Run(quick_config(sites, rounds=2), tmp_path / "run")
    run.grid.lost = {
        ("site-0000", "sign_survivors", 1): "in",
        ("site-0001", "mask_input", 1): "out",
    }
    run.go()
    status = run.status()
    assert set(status[1].values()) == {"error"}
    assert set(status[2].values()) == {"ok"}
    first, second = RunFolder.open(run.path).read_rounds()[1:]
    assert "the round is abandoned" in first["fault"]
    assert first["update_norm"] is None
    assert second["fault"] is None
    assert second["update_norm"] > 0
    # The site whose bytes were lost was charged; what the server has is what it recorded.
    history = SumFederation(run.config).agent("site-0001").ledger.history()
    assert len(history) == 3
    kinds = [
        (line["site"], line["server_round"])
        for line in RunFolder.open(run.path).read_releases()
        if line["kind"] == "update" and line["server_round"] == 1
    ]
    assert kinds == [("site-0000", 1), ("site-0002", 1), ("site-0003", 1)]


def test_sites_that_are_gone_for_good_end_the_run_instead_of_charging_the_others_for_ever(
    four: Path, tmp_path: Path
) -> None:
    run = Run(quick_config(fresh_copy(four, tmp_path / "sites"), rounds=6), tmp_path / "run")
    for server_round in range(1, 7):
        for site in ("site-0001", "site-0002"):
            run.grid.lost[site, "advertise", server_round] = "in"
    with pytest.raises(FederationError, match="0 of 4 sites gave a usable answer to round 2"):
        run.go()
    assert [r["server_round"] for r in RunFolder.open(run.path).read_rounds()] == [0, 1, 2]


def test_a_run_without_any_sum_is_no_success(four: Path, tmp_path: Path) -> None:
    run = Run(quick_config(fresh_copy(four, tmp_path / "sites"), rounds=1), tmp_path / "run")
    for site in ("site-0001", "site-0002"):
        run.grid.lost[site, "advertise", 1] = "in"
    with pytest.raises(FederationError, match=r"none of 1 rounds gave a new adapter.*abandoned"):
        run.go()

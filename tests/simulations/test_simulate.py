"""One real run, from data to report, in this process; its records must carry its claim."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.accounting import epsilon
from common.config import (
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.errors import DataError, FederationError
from common.privacy_events import event_from_dict
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.partition import write_site_folders
from simulations.simulate import SimulationResult, simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def config(**sections: dict[str, object]) -> RunConfig:
    return RunConfig(
        data=DataConfig(**{"dataset": "synthetic", "sites": 3, **sections.get("data", {})}),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(
            **{"mode": "local", "targets_per_unit": 2, "negatives_per_unit": 4}
            | sections.get("privacy", {})
        ),
        federation=FederationConfig(
            **{"rounds": 3, "local_lr": 0.1, **sections.get("federation", {})}
        ),
        evaluation=EvaluationConfig(every=1, bootstrap_resamples=200, companions=""),
    )


def run(config: RunConfig, path: Path) -> SimulationResult:
    folder = RunFolder.create(path)
    folder.write_config(config)
    return simulate(config, folder, SilentListener())


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this module's own, so that another run's sites are not seen in it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def private_run(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> SimulationResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDREC_CACHE", str(own_cache))
        return run(config(), tmp_path_factory.mktemp("runs") / "private")


def test_the_folder_holds_everything(private_run: SimulationResult) -> None:
    names = {
        str(p.relative_to(private_run.run_folder))
        for p in private_run.run_folder.rglob("*")
        if p.is_file()
    }
    assert names == {
        "PRIVACY.md",
        "adapter/adapter.json",
        "adapter/adapter.safetensors",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "checkpoint/checkpoint.safetensors",
        "config.toml",
        "ledgers/site-0000.json",
        "ledgers/site-0001.json",
        "ledgers/site-0002.json",
        "metrics.json",
        "releases.jsonl",
        "report.html",
        "report.json",
        "rounds.jsonl",
    }
    rounds = RunFolder.open(private_run.run_folder).read_rounds()
    assert [r["server_round"] for r in rounds] == [0, 1, 2, 3]
    assert all(site["status"] == "ok" for r in rounds for site in r["sites"])


def test_recorded_epsilon_is_the_total_and_pld_does_not_pass_it(
    private_run: SimulationResult,
) -> None:
    releases = RunFolder.open(private_run.run_folder).read_releases()
    assert private_run.epsilon is not None
    for site in {r["site"] for r in releases}:
        mine = [r for r in releases if r["site"] == site and r["event"] is not None]
        assert len(mine) == 4  # popularity and three rounds
        events = [event_from_dict(r["event"]) for r in mine]
        for upto in range(1, 5):
            total = epsilon(events[:upto], 1e-4, "pld")
            assert total <= mine[upto - 1]["epsilon_prv"] <= total + 0.02
        assert 0.98 * 8 <= mine[-1]["epsilon_prv"] <= 8
    assert private_run.epsilon == pytest.approx(mine[-1]["epsilon_prv"])


def test_ledger_exports_agree_with_the_releases(private_run: SimulationResult) -> None:
    folder = RunFolder.open(private_run.run_folder)
    for site, ledger in folder.read_ledgers().items():
        recorded = [
            r for r in folder.read_releases() if r["site"] == site and r["kind"] != "metrics"
        ]
        assert [e["record"]["payload_sha256"] for e in ledger["releases"]] == [
            r["payload_sha256"] for r in recorded
        ]


def test_no_user_and_no_site_data_are_in_the_run_folder(
    private_run: SimulationResult, own_cache: Path
) -> None:
    texts = [p.read_bytes() for p in private_run.run_folder.rglob("*") if p.is_file()]
    assert not any(b"interactions.parquet" in text for text in texts)
    assert list((own_cache / "simulated-sites").iterdir()) == []


def test_the_report_states_the_claim_and_the_floors(private_run: SimulationResult) -> None:
    statement = (private_run.run_folder / "PRIVACY.md").read_text()
    assert "add" in statement
    assert "0.0001" in statement or "1e-4" in statement or "1e-04" in statement
    rows = {row["kind"] for row in private_run.metrics["rows"]}
    assert {"model", "ablation", "baseline", "dp_popularity", "text_floor"} <= rows
    assert private_run.metrics["lab_only"] is True


def test_the_peft_files_hold_the_trained_lora(private_run: SimulationResult) -> None:
    folder = private_run.run_folder / "adapter"
    peft = load_file(folder / "adapter_model.safetensors")
    ours = load_file(folder / "adapter.safetensors")
    for name, array in ours.items():
        if name.startswith("lora."):
            np.testing.assert_array_equal(peft[name.removeprefix("lora.")], array)
    description = json.loads((folder / "adapter_config.json").read_text())
    assert description["peft_type"] == "LORA"
    assert sum("lora_A" in name for name in peft) == sum("lora_B" in name for name in peft) == 2


def test_without_privacy_equal_seeds_give_equal_adapters(tmp_path: Path) -> None:
    plain = config(privacy={"mode": "none"}, federation={"rounds": 1, "local_steps": 2})
    adapters = []
    for name in ("a", "b"):
        result = run(plain, tmp_path / name)
        assert result.epsilon is None
        adapters.append(RunFolder.open(result.run_folder).read_adapter()[0])
    for name, array in adapters[0].items():
        np.testing.assert_array_equal(array, adapters[1][name])


@pytest.mark.parametrize("sites", [1, 60])
def test_from_one_site_to_one_user_per_site(sites: int, tmp_path: Path) -> None:
    extreme = config(data={"sites": sites}, federation={"rounds": 1, "min_sites": 1})
    result = run(extreme, tmp_path / "run")
    (_, record) = RunFolder.open(result.run_folder).read_rounds()
    assert len(record["sites"]) == sites
    assert all(site["status"] == "ok" for site in record["sites"])


def test_more_sites_than_users_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="61"):
        run(config(data={"sites": 61}), tmp_path / "run")


def test_lasting_sites_refuse_a_second_run_over_their_budget(tmp_path: Path) -> None:
    kept = config(federation={"rounds": 1})
    sites = tmp_path / "sites"
    write_site_folders(load_dataset(kept.data), kept.data, sites)
    kept = config(federation={"rounds": 1}, data={"sites_folder": str(sites)})
    run(kept, tmp_path / "first")
    with pytest.raises(FederationError, match=r"0 of 3 sites.*report up to here is .*html"):
        run(kept, tmp_path / "second")
    (record,) = RunFolder.open(tmp_path / "second").read_rounds()
    assert {site["status"] for site in record["sites"]} == {"refused"}
    assert all("budget" in site["reason"] for site in record["sites"])
    report = (tmp_path / "second" / "report.html").read_text()
    assert "site-0000 refused in round 0: BudgetRefusal" in report
    assert "No site released anything in this run" in (tmp_path / "second/PRIVACY.md").read_text()

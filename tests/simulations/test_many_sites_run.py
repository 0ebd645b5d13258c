"""Runs of sampled and pooled sites: the same federation in either layout, in flat memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.config import DataConfig, RunConfig
from common.config_loading import load_config
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.result_view import RunSummary, result_json
from simulations.simulate import SimulationResult, simulate
from simulations.site_layout import write_sites

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = (
    "data.dataset=synthetic",
    "data.sites=6",
    "model.item_side=head",
    "model.head_dim=4",
    "model.head_items=0",
    "privacy.mode=local",
    "privacy.targets_per_unit=2",
    "privacy.negatives_per_unit=4",
    "privacy.insecure_seeded_noise=true",
    "federation.rounds=2",
    "federation.local_lr=0.1",
    "evaluation.bootstrap_resamples=200",
    "evaluation.companions=",
)


def config(*changes: str) -> RunConfig:
    return load_config(overrides=[*SETTINGS, *changes])


def run(config: RunConfig, path: Path) -> SimulationResult:
    folder = RunFolder.create(path)
    folder.write_config(config)
    return simulate(config, folder, SilentListener())


def sites_of(data: DataConfig, path: Path, *, pooled: bool) -> str:
    write_sites(data, path, dataset=load_dataset(data), pooled=pooled)
    return f"data.sites_folder={path}"


def test_seeded_runs_are_identical_in_both_layouts(tmp_path: Path) -> None:
    found = []
    for layout in ("folders", "pool"):
        data = config().data
        sites = sites_of(data, tmp_path / f"sites-{layout}", pooled=layout == "pool")
        result = run(config(sites, "federation.sites_per_round=3"), tmp_path / layout)
        found.append(RunFolder.open(result.run_folder))
    folders, pool = found
    for name, array in folders.read_adapter()[0].items():
        np.testing.assert_array_equal(array, pool.read_adapter()[0][name])
    hashes = [[(r["site"], r["payload_sha256"]) for r in each.read_releases()] for each in found]
    assert hashes[0] == hashes[1]
    assert sorted(folders.read_ledgers()) == sorted(pool.read_ledgers())


def test_only_the_drawn_sites_are_asked_and_pay(tmp_path: Path) -> None:
    sites = sites_of(config().data, tmp_path / "sites", pooled=True)
    result = run(config(sites, "federation.sites_per_round=2"), tmp_path / "run")
    folder = RunFolder.open(result.run_folder)
    rounds = folder.read_rounds()
    assert [len(record["sites"]) for record in rounds] == [2, 2, 2]
    assert {record["validation"]["users"] for record in rounds if record["validation"]} == {20.0}
    asked = {site["site"] for record in rounds for site in record["sites"]}
    assert len(asked) < 6
    assert {path.name for path in (tmp_path / "sites").glob("site-*")} == asked
    charged = [release for release in folder.read_releases() if release["event"]]
    assert set(folder.read_ledgers()) == {release["site"] for release in charged} == asked
    for record in rounds:  # each pays for the rounds that it was in, and for no other
        here = {r["site"] for r in charged if r["server_round"] == record["server_round"]}
        assert here == {site["site"] for site in record["sites"]}
    assert result.epsilon is not None
    assert result.epsilon <= 8


def test_without_the_lab_no_data_set_is_loaded_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = sites_of(config().data, tmp_path / "sites", pooled=True)
    for module in ("simulations.simulate", "simulations.site_layout"):
        monkeypatch.delattr(f"{module}.load_dataset")
    result = run(config(sites, "evaluation.lab=false"), tmp_path / "run")
    assert result.metrics is None
    assert not (result.run_folder / "metrics.json").exists()
    assert "No evaluation in the lab" in (result.run_folder / "report.html").read_text()
    assert (result.run_folder / "adapter" / "adapter_config.json").is_file()
    shown = RunSummary(result.run_folder, None, config().privacy, result.epsilon, 1e-4, 1.0)
    assert json.loads(result_json(shown))["ndcg_10"] is None


def test_twenty_thousand_sites_need_no_more_memory_than_two_hundred(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "many_sites.py"
    command = [sys.executable, str(script), "--drawn", "5", "--rounds", "2"]
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1]), "OMP_NUM_THREADS": "1"}
    out = tmp_path / "figures.json"
    command += ["--out", str(out), "--sites", "200", "20000"]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    few, many = json.loads(out.read_text())
    assert many["run_peak_mib"] < 1.1 * few["run_peak_mib"]
    assert many["writing_peak_mib"] < 1.3 * few["writing_peak_mib"]
    assert many["live_agents"] <= 6
    assert many["sites_asked"] <= 15

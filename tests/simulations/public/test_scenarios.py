"""Bundled scenarios on their samples: the claim, the metrics, and popularity is beaten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config_loading import load_config
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.report import build_report
from simulations.scenario_files import find_scenario
from simulations.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", ["news"])
def test_impressions_beat_popularity_on_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    metrics = _metrics(tmp_path, name)
    assert metrics["dataset"] == f"{name} (generated sample)"
    rows = {row["name"]: row for row in metrics["impressions"]["rows"]}
    model = rows["fedrec (distributed, ε=8)"]
    assert model["auc"]["mean"] > rows["Pop"]["auc"]["mean"]
    assert model["log_loss"] < metrics["impressions"]["base_log_loss"]
    page = build_report(tmp_path / name).read_text(encoding="utf-8")
    assert "Impressions: what was shown" in page
    assert page.count('scope="col">pooled AUC') == 1


def test_clicks_with_context_run_on_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    metrics = _metrics(tmp_path, "ads")
    assert metrics["dataset"] == "ads (generated sample)"
    model = metrics["impressions"]["rows"][0]
    assert 0.5 < model["auc"]["mean"] < 1
    assert model["log_loss"] < metrics["impressions"]["base_log_loss"]


@pytest.mark.parametrize("name", ["music", "products", "pictures"])
def test_lists_beat_popularity_on_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    metrics = _metrics(tmp_path, name)
    assert metrics["impressions"] is None
    rows = {row["name"]: row for row in metrics["rows"]}
    ours = rows["fedrec (distributed, ε=8)"]["ndcg_10"]
    assert ours["low"] > rows["Pop"]["ndcg_10"]["high"]


def _metrics(tmp_path: Path, name: str) -> dict[str, Any]:
    config = load_config(
        scenario=find_scenario(name), overrides=["evaluation.bootstrap_resamples=200"]
    )
    folder = RunFolder.create(tmp_path / name)
    folder.write_config(config)
    result = simulate(config, folder, SilentListener())
    assert result.epsilon is not None
    assert result.epsilon <= 8
    assert result.metrics is not None
    return result.metrics

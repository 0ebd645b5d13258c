"""A whole run with private metrics: its total fits, and is recomputed from its releases alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.config import (
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.progress import SilentListener
from common.recorded_epsilon import check_recorded, spending_by_site
from common.run_folder import RunFolder
from simulations.report.run_files import read_releases
from simulations.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("mode", ["local", "distributed"])
def test_the_total_of_a_run_with_private_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    config = RunConfig(
        data=DataConfig(dataset="synthetic", sites=3),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(
            mode=mode, targets_per_unit=2, negatives_per_unit=4, max_dropouts=0, max_colluders=1
        ),
        federation=FederationConfig(rounds=3, local_lr=0.1),
        evaluation=EvaluationConfig(
            every=2, metrics="private", bootstrap_resamples=100, companions=""
        ),
    )
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config(config)
    simulate(config, folder, SilentListener())

    releases = read_releases(folder.path / "releases.jsonl")
    metrics = [record for record in releases if record.kind == "metrics"]
    assert len(metrics) == 3 * 3  # validation after rounds 2 and 3, test after 3
    assert not [record for record in releases if record.mechanism == "exact_lab_only"]
    sites = spending_by_site(releases)
    check_recorded(sites)
    for site in sites:
        assert 0.98 * 8 <= site.recomputed["prv"] <= 8
        assert site.recorded["prv"] == pytest.approx(site.recomputed["prv"], abs=1e-6)
        assert abs(site.recomputed["prv"] - site.recomputed["pld"]) <= 0.02

    rounds = folder.read_rounds()
    assert {line["metrics"] for line in rounds} == {"private"}
    assert rounds[-1]["test"]["noise_std"] > 0
    assert rounds[1]["validation"] is None
    last = {site["site"]: site["epsilon_prv"] for site in rounds[-1]["sites"]}
    assert last == {site.site: site.recorded["prv"] for site in sites}

    statement = (folder.path / "PRIVACY.md").read_text(encoding="utf-8")
    assert "validation and test metrics that sites released with noise" in statement
    assert "group statistics never leave a site" in statement
    report = json.loads((folder.path / "report.json").read_text(encoding="utf-8"))
    assert report["claim"]["status"] == "private"
    assert "noised at every site" in report["validation_note"]

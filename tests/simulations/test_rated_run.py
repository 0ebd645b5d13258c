"""A run that learns clicks and ratings together tells how well it knows held-out ratings."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from common.config_loading import load_config
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.report import build_report
from simulations.report.metrics_file import MetricsFile
from simulations.report.rating_records import ITEM_MEAN, OVERALL_MEAN
from simulations.result_view import RunSummary, show_result
from simulations.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = {
    "data": {"dataset": "synthetic", "sites": 3},
    "model": {"objective": "click_rating", "head": "bilinear", "head_dim": 8, "lora_layers": 1},
    "privacy": {"mode": "none", "targets_per_unit": 10, "negatives_per_unit": 10},
    "federation": {
        "rounds": 2,
        "local_steps": 10,
        "units_per_step": 8,
        "local_optimizer": "adam",
        "local_lr": 0.01,
    },
    "evaluation": {"every": 0, "bootstrap_resamples": 200, "companions": ""},
}


def test_its_report_tells_errors_of_ratings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    overrides = [f"{part}.{key}={v}" for part, keys in SETTINGS.items() for key, v in keys.items()]
    config = load_config(overrides=overrides)
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config(config)
    result = simulate(config, folder, SilentListener())
    found = MetricsFile.model_validate(result.metrics)
    assert found.ratings is not None
    model, of_item, of_all = found.ratings.rows
    assert (model.name, of_item.name, of_all.name) == (found.rows[0].name, ITEM_MEAN, OVERALL_MEAN)
    assert 0 < model.mae.mean < model.rmse.mean < 2 * of_all.rmse.mean
    page = build_report(folder.path).read_text(encoding="utf-8")
    assert "Ratings of the held-out items" in page
    assert page.count('scope="col">RMSE') == 1
    told = Console(file=StringIO(), width=200)
    show_result(told, RunSummary(folder.path, result.metrics, config.privacy, None, 1e-4, 1.0))
    assert f"{OVERALL_MEAN}: RMSE {of_all.rmse.mean:.4f}" in told.file.getvalue()  # type: ignore[attr-defined]

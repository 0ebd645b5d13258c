"""Runs that go on where another ended: the same ledgers, one composed ε, a policy that refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from common.accounting import epsilon
from common.adapters import adapter_sha256
from common.config import (
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.config_loading import load_config
from common.errors import ConfigError, FederationError
from common.privacy_events import event_from_dict
from common.progress import SilentListener
from common.run_folder import CONFIG_FILE, RunFolder
from server.resuming import is_trained
from server.warm_start import starting_adapter
from simulations.continuing import continued_config
from simulations.simulate import simulate
from simulations.site_layout import write_sites

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _config(sites: Path | str, **evaluation: object) -> RunConfig:
    values = {"metrics": "none", "lab": False, "companions": "", **evaluation}
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=3, sites_folder=str(sites)),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(
            target_epsilon=3,
            targets_per_unit=2,
            negatives_per_unit=4,
            max_dropouts=0,
            max_colluders=1,
        ),
        federation=FederationConfig(rounds=2, local_lr=0.1),
        evaluation=EvaluationConfig.model_validate(values),
    )


def _living_sites(folder: Path, limit: float) -> Path:
    """Three sites with a limit of their own for all their life."""
    write_sites(DataConfig(dataset="synthetic", sites=3), folder, pooled=False)
    for site in folder.glob("site-*"):
        (site / "policy.toml").write_text(
            f'max_epsilon = {limit}\nmax_delta = 1e-4\nallowed_modes = ["distributed"]\n'
            "min_participants = 2\nmin_colluders = 0\n"
            'allowed_releases = ["update", "popularity", "metrics"]\n',
            encoding="utf-8",
        )
    return folder


def _run(config: RunConfig, path: Path) -> RunFolder:
    folder = RunFolder.create(path)
    folder.write_config(config)
    simulate(config, folder, SilentListener())
    return folder


def _events(folder: RunFolder, site: str) -> list[dict[str, object]]:
    return [r["event"] for r in folder.read_releases() if r["site"] == site and r["event"]]


def test_two_runs_compose_on_refreshed_tables_and_a_third_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    sites = _living_sites(tmp_path / "sites", limit=5.0)
    first = _run(_config(sites), tmp_path / "first")
    for path in sites.glob("site-*/interactions.parquet"):  # the newest row of all is gone again
        table = pq.read_table(path)
        pq.write_table(table.slice(0, table.num_rows - 1), path)

    second = _run(continued_config(first, []), tmp_path / "second")

    start = second.read_json("warm_start.json")
    assert start["adapter_sha256"] == adapter_sha256(first.read_adapter()[0])
    site = first.read_releases()[0]["site"]
    both = [event_from_dict(each) for each in (*_events(first, site), *_events(second, site))]
    alone = max(r["epsilon_prv"] for r in first.read_releases())
    stated = max(r["epsilon_prv"] for r in second.read_releases() if r["site"] == site)
    assert stated == pytest.approx(epsilon(both, 1e-4), abs=1e-9)
    assert alone < 3.0 + 1e-9 < stated < 5.0
    assert start["epsilon"] == pytest.approx(alone)

    with pytest.raises(FederationError, match="0 of 3 sites"):
        _run(continued_config(second, []), tmp_path / "third")
    reasons = json.dumps(RunFolder.open(tmp_path / "third").read_rounds())
    assert "privacy budget" in reasons


def test_a_start_that_nothing_covers_or_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    open_run = _config("").model_copy(update={"privacy": PrivacyConfig(mode="none")})
    folder = _run(open_run, tmp_path / "open")
    with pytest.raises(ConfigError, match="ledgers ended with"):
        continued_config(folder, [])
    sites = f"data.sites_folder={str(tmp_path)!r}"
    with pytest.raises(ConfigError, match="without a guarantee"):
        continued_config(folder, [sites, "privacy.mode=distributed"])
    with pytest.raises(ConfigError, match="a run that continues another keeps it"):
        continued_config(folder, [sites, "model.head_dim=5"])
    start = f"federation.warm_start={str(folder.path)!r}"
    for change, says in (("model.head_dim=5", "does not fit"), ("federation.seed=1", "seed=0")):
        overrides = [start, "model.item_side=both", change]
        with pytest.raises(ConfigError, match=says):
            starting_adapter(load_config(scenario=folder.path / CONFIG_FILE, overrides=overrides))


def test_a_run_ends_early_and_pays_for_what_it_asked_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("server.early_stop.max", lambda values: 0.0, raising=False)  # never better
    config = _config("", metrics="private", patience=1, metrics_noise_multiplier=30.0)
    config = config.model_copy(
        update={"federation": config.federation.model_copy(update={"rounds": 5})}
    )
    folder = _run(config, tmp_path / "run")
    lines = [line for line in folder.read_rounds() if line["server_round"] > 0]
    assert len(lines) == 2  # the first cannot be worse, the second is no better
    assert "evaluation.patience=1" in lines[-1]["stopped"]
    assert lines[0]["stopped"] is None
    assert lines[-1]["test"] is not None
    assert load_config(scenario=folder.path / CONFIG_FILE).federation.rounds == 5
    releases = folder.read_releases()
    assert len([r for r in releases if r["kind"] == "metrics"]) == 3 * 3  # two of them, and test
    assert 0 < max(r["epsilon_prv"] for r in releases) < 0.95 * 3
    assert is_trained(folder)

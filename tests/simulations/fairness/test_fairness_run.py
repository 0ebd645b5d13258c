"""Whole runs with fairness tables: where they come from, and which rows they compare."""

from __future__ import annotations

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
from common.run_folder import RunFolder
from simulations.companions import companion_config
from simulations.datasets import load_dataset
from simulations.fairness.run_impact import impact_of_runs
from simulations.report.metrics_file import MetricsFile
from simulations.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def tiny_config(mode: str = "local") -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=3),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(mode=mode, targets_per_unit=2, negatives_per_unit=4),
        federation=FederationConfig(rounds=2, local_lr=0.1, units_per_step=4),
        evaluation=EvaluationConfig(
            bootstrap_resamples=100,
            companions="last_fifth",
            personal_steps=2,
            exposure_penalty=0.5,
        ),
    )


def run(config: RunConfig, path: Path) -> tuple[RunFolder, MetricsFile]:
    folder = RunFolder.create(path)
    folder.write_config(config)
    simulate(config, folder, SilentListener())
    return folder, MetricsFile.model_validate(folder.read_json("metrics.json"))


def test_tables_are_of_the_companion_and_compare_what_is_switched_on(tmp_path: Path) -> None:
    folder, metrics = run(tiny_config(), tmp_path / "run")
    assert metrics.split == "leave_one_out"
    assert metrics.groups_split == "last_fifth"
    fairness = metrics.fairness
    assert fairness is not None
    assert fairness.source == "companion"
    companion = RunFolder.open(folder.path / "companions" / "last_fifth")
    assert companion.read_config().data.split == "last_fifth"
    name = metrics.rows[0].name
    assert [(row.row, row.kind) for row in fairness.rows] == [
        (name, "model"),
        (f"{name} + personal towers", "mitigation"),
        (f"{name} + exposure re-ranking", "mitigation"),
        ("fedrec before training", "start"),
        ("Pop", "baseline"),
        ("EASE", "baseline"),
    ]
    plain, personal, reranked = fairness.rows[:3]
    assert plain.difference is None
    assert personal.difference is not None
    assert reranked.popularity.mean < plain.popularity.mean
    assert {row.users for row in fairness.rows} == {60}
    assert {site.row for site in fairness.sites} == {row.row for row in fairness.rows}
    assert [site.n for site in fairness.sites[0].sites] == [20, 20, 20]
    assert {record.by for record in fairness.providers} == {"genre", "popularity"}
    assert len(fairness.niche) == 2 * len(fairness.rows)
    attributes = [g.attribute for g in metrics.groups if g.row == plain.row]
    assert attributes == ["gender", "age", "occupation"]
    gender = next(g for g in metrics.groups if g.row == plain.row)
    mean = sum(g.n * g.utility.mean for g in gender.groups) / 60
    assert mean == pytest.approx(plain.utility.mean)  # one and the same evaluation


def test_a_last_fifth_run_looks_at_itself_and_fair_weights_at_equal_ones(tmp_path: Path) -> None:
    changes = {
        "data.split": "last_fifth",
        "privacy.mode": "none",
        "federation.weighting": "fair",
        "evaluation.companions": "",
        "evaluation.personal_steps": 0,
        "evaluation.exposure_penalty": 0.0,
    }
    folder, metrics = run(companion_config(tiny_config(), changes), tmp_path / "run")
    assert metrics.fairness is not None
    assert metrics.fairness.source == "run"
    name = metrics.rows[0].name
    plain, fair = metrics.fairness.rows[:2]
    assert (plain.row, plain.kind) == (f"{name}, equal weights", "model")
    assert (fair.row, fair.kind) == (f"{name}, fair weights", "mitigation")
    assert fair.utility.mean == pytest.approx(metrics.rows[0].ndcg_10.mean)
    equal = RunFolder.open(folder.path / "companions" / "last_fifth_equal")
    assert equal.read_config().federation.weighting == "equal"
    assert not (folder.path / "companions" / "last_fifth").exists()
    first, last = (line["sites"] for line in folder.read_rounds()[-2:])
    assert {site["weight"] for site in first} == {1}
    assert len({site["weight"] for site in last}) > 1


def test_the_impact_of_privacy_is_of_the_companions(tmp_path: Path) -> None:
    config = companion_config(
        tiny_config(), {"evaluation.personal_steps": 0, "evaluation.exposure_penalty": 0.0}
    )
    private, metrics = run(config, tmp_path / "private")
    without, others = run(companion_config(config, {"privacy.mode": "none"}), tmp_path / "none")
    records = impact_of_runs([without], [private], load_dataset(config.data), resamples=100)
    assert [record.attribute for record in records] == ["gender", "age", "occupation"]
    assert metrics.fairness is not None
    assert others.fairness is not None
    lost = others.fairness.rows[0].utility.mean - metrics.fairness.rows[0].utility.mean
    for record in records:
        assert record.epsilon == 8
        whole = sum(g.n * g.loss.mean for g in record.groups) / 60
        assert whole == pytest.approx(lost, abs=1e-9)

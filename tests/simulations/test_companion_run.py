"""A run with all its companions: their rows, their tables, and what happens where one fails."""

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
from common.errors import FederationError
from common.run_folder import RunFolder
from simulations.report.metrics_file import MetricsFile
from simulations.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Heard:
    """Keeps the messages and lets everything else pass."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def run_started(self, total_rounds: int) -> None: ...

    def round_started(self, server_round: int) -> None: ...

    def site_finished(self, server_round: int, site: str) -> None: ...

    def round_finished(self, record: object) -> None: ...

    def message(self, text: str) -> None:
        self.messages.append(text)


def tiny(companions: str, **data: object) -> RunConfig:
    return RunConfig(
        data=DataConfig(**{"dataset": "synthetic", "sites": 3, **data}),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(mode="local", targets_per_unit=2, negatives_per_unit=4),
        federation=FederationConfig(rounds=1, local_lr=0.1),
        evaluation=EvaluationConfig(bootstrap_resamples=100, companions=companions),
    )


def run(config: RunConfig, path: Path) -> tuple[MetricsFile, Heard]:
    folder, heard = RunFolder.create(path), Heard()
    folder.write_config(config)
    simulate(config, folder, heard)
    content = json.loads((path / "metrics.json").read_text())
    return MetricsFile.model_validate(content), heard


def test_every_companion_has_its_place(tmp_path: Path) -> None:
    found, heard = run(tiny("frozen, central, time_cut"), tmp_path / "run")
    assert [row.kind for row in found.rows[:3]] == ["model", "ablation", "central"]
    frozen, central = found.rows[1:3]
    assert (frozen.name, frozen.mode, frozen.epsilon) == ("frozen BERT, same head", "local", 8.0)
    assert (central.mode, central.epsilon) == ("none", None)
    assert "rounds of 1 step of 60 users" in central.note
    against = {each.other for each in found.rows[0].differences}
    assert against == {frozen.name, central.name, "Pop", "DP-Pop", "DP-Pop + on-site text"}
    assert found.time_cut is not None
    assert found.time_cut.rows[0].kind == "model"
    assert found.time_cut.users + found.time_cut.left_out == 60
    assert found.time_cut.left_out > 0
    assert [each.status for each in found.companions] == ["run"] * 3 + ["not_run"]
    said = [text for text in heard.messages if text.startswith("companion run ")]
    assert [text.split()[2] for text in said] == ["frozen:", "central:", "time_cut:"]
    folders = {path.name for path in (tmp_path / "run" / "companions").iterdir()}
    assert folders == {"frozen", "central", "time_cut"}
    assert found.sampled is not None
    assert found.sampled.rows[0].name == found.rows[0].name


def test_a_companion_that_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FederationError("no site answered")

    monkeypatch.setattr("simulations.companion_rows.run_companion", fail)
    found, _ = run(tiny("frozen"), tmp_path / "run")
    assert [(each.name, each.status) for each in found.companions] == [
        ("frozen", "failed"),
        ("central", "not_run"),
        ("time_cut", "not_run"),
        ("last_fifth", "not_run"),
    ]
    [warning] = found.warnings
    assert "companion run frozen failed, so its row is missing: no site answered" in warning
    assert warning in (tmp_path / "run" / "report.html").read_text()


def test_what_ends_a_companion_leaves_the_runs_own_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulations.companion_rows.run_companion", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tiny("frozen"), tmp_path / "run")
    found = MetricsFile.model_validate(json.loads((tmp_path / "run/metrics.json").read_text()))
    assert found.rows[0].kind == "model"


def test_a_run_cut_in_time_finds_its_times(tmp_path: Path) -> None:
    found, _ = run(tiny("", split="time_cut"), tmp_path / "run")
    assert found.split == "time_cut"
    assert found.rows[0].users < 60
    data = RunFolder.open(tmp_path / "run").read_config().data
    assert 0 < data.validation_from < data.test_from

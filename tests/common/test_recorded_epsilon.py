"""What every mode's run claims, recomputed from its ``releases.jsonl`` alone."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from common.accounting import epsilon
from common.config import (
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.privacy_events import event_from_dict
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.simulate import simulate

SITES, ROUNDS = 4, 2
AGREEMENT = 0.02

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]


def releases_of(mode: str, path: Path, **privacy: Any) -> tuple[list[dict[str, Any]], float | None]:
    """The lines that a tiny run left, and the ε that it states."""
    config = RunConfig(
        data=DataConfig(dataset="synthetic", sites=SITES),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(
            mode=mode, targets_per_unit=2, negatives_per_unit=4, max_site_units=60, **privacy
        ),
        federation=FederationConfig(rounds=ROUNDS, local_lr=0.1),
        evaluation=EvaluationConfig(every=0, bootstrap_resamples=200, companions=""),
    )
    folder = RunFolder.create(path)
    folder.write_config(config)
    result = simulate(config, folder, SilentListener())
    lines = (path / "releases.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], result.epsilon


@pytest.mark.parametrize("sample_rate", [1.0, 0.5])
@pytest.mark.parametrize("mode", ["local", "distributed", "central"])
def test_the_recorded_epsilon_follows_from_the_releases_alone(
    mode: str, sample_rate: float, tmp_path: Path
) -> None:
    lines, stated = releases_of(mode, tmp_path / "run", sample_rate=sample_rate)
    by_site = defaultdict(list)
    for line in lines:
        if line["mechanism"] != "exact_lab_only":
            by_site[line["site"]].append(line)
    assert len(by_site) == SITES
    for site, own in by_site.items():
        assert [(line["kind"], line["server_round"]) for line in own] == [
            ("popularity", 0),
            *(("update", server_round) for server_round in range(1, ROUNDS + 1)),
        ], site
        events = [event_from_dict(line["event"]) for line in own]
        for upto, line in enumerate(own, start=1):
            assert line["mode"] == mode
            delta, spent = line["delta"], events[:upto]
            assert line["epsilon_prv"] == pytest.approx(epsilon(spent, delta), rel=1e-12)
            assert line["epsilon_rdp"] == pytest.approx(epsilon(spent, delta, "rdp"), rel=1e-12)
            assert abs(line["epsilon_prv"] - epsilon(spent, delta, "pld")) <= AGREEMENT
            assert line["noise_multiplier"] == events[upto - 1].noise_multiplier
        assert 0.98 * 8 <= own[-1]["epsilon_prv"] <= 8
    assert stated == max(own[-1]["epsilon_prv"] for own in by_site.values())


def test_without_noise_no_epsilon_is_claimed(tmp_path: Path) -> None:
    lines, stated = releases_of("none", tmp_path / "run")
    assert stated is None
    assert lines
    for line in lines:
        assert line["mechanism"] in ("none", "exact_lab_only")
        assert (line["event"], line["epsilon_prv"], line["epsilon_rdp"]) == (None, None, None)

"""An audit run: canaries go in by committed coins, the mechanism hides them, an audit opens."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

import client.site_sums
from common.config import DataConfig, RunConfig
from common.config_loading import load_config
from common.errors import ConfigError, EvidenceError
from common.flat_adapter import Floats
from common.randomness import RandomSource
from common.secagg.modular import from_signed
from common.secagg.quantisation import QuantisationPlan, quantise
from common.site_folder import SiteManifest, read_manifest, site_name
from simulations.audit.run_canaries.audit_run import audit_config
from simulations.audit.run_canaries.plan import (
    begin,
    coins,
    end,
    open_secret,
    planned_guesses,
    read_plan,
)
from simulations.audit.run_canaries.scoring import Seen, scores
from simulations.audit.run_canaries.weaving import PREFIX, made_up, weave
from simulations.partition import write_site_folders
from simulations.scenario_files import find_scenario
from simulations.synthetic import synthetic_dataset
from tests.own_process import Command

SEED = "5e" * 32


def config_of(canaries: int, target_epsilon: float = 1.0) -> RunConfig:
    return RunConfig.model_validate(
        {
            "data": {"dataset": "synthetic", "sites": 3},
            "privacy": {"mode": "distributed", "target_epsilon": target_epsilon},
            "evaluation": {"audit_canaries": canaries, "metrics": "none", "companions": ""},
        }
    )


def test_the_coins_are_fair_and_anyone_can_toss_them_again() -> None:
    tossed = coins(SEED, 4000)
    assert abs(int(tossed.sum()) - 2000) < 200  # 6 deviations
    assert np.array_equal(coins(SEED, 100), tossed[:100])
    assert not np.array_equal(coins("00" * 32, 4000), tossed)


def test_a_declared_size_does_not_depend_on_the_coins(tmp_path: Path) -> None:
    dataset, config = synthetic_dataset(), config_of(30)
    made = made_up(dataset, SEED, 30)
    seen = []
    for name, bits in (("all", np.ones(30, bool)), ("none", np.zeros(30, bool))):
        sites = tmp_path / name
        write_site_folders(dataset, DataConfig(dataset="synthetic", sites=3), sites)
        before = pq.read_table(sites / site_name(0) / "interactions.parquet").num_rows
        weave(sites, config, made, bits)
        manifest = read_manifest(sites / site_name(0) / "site.json", SiteManifest)
        users = pq.read_table(sites / site_name(0) / "users.parquet")["user_id"].to_pylist()
        rows = pq.read_table(sites / site_name(0) / "interactions.parquet").num_rows
        seen.append((manifest, [u for u in users if u.startswith(PREFIX)], rows - before))
    assert seen[0][0] == seen[1][0]
    assert seen[0][0].declared_units == 20 + 10
    assert (len(seen[0][1]), len(seen[1][1])) == (10, 0)
    assert seen[0][2] > 0
    assert seen[1][2] == 0


def test_the_secret_is_bound_and_for_its_owner_alone(tmp_path: Path) -> None:
    config, secret = begin(tmp_path, config_of(50))
    committed, file = config.evaluation.audit_commitment, tmp_path / "canaries-secret.json"
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert secret.seed not in (tmp_path / "canaries.json").read_text()
    assert open_secret(tmp_path, read_plan(tmp_path), committed) is None  # not yet scored
    end(tmp_path, secret, tuple(np.linspace(0, 1, 50)))
    opened = open_secret(tmp_path, read_plan(tmp_path), committed)
    assert opened is not None
    assert opened.seed == secret.seed

    file.write_text(file.read_text().replace(secret.seed, SEED))
    with pytest.raises(EvidenceError, match="not those that the run committed to"):
        open_secret(tmp_path, read_plan(tmp_path), committed)
    content = json.loads(file.read_text())
    content["seed"], content["scores"][0] = secret.seed, 0.5
    file.write_text(json.dumps(content))
    with pytest.raises(EvidenceError, match="scores are not those"):
        open_secret(tmp_path, read_plan(tmp_path), committed)
    file.chmod(0o644)
    with pytest.raises(EvidenceError, match="chmod 600"):
        open_secret(tmp_path, read_plan(tmp_path), committed)


def test_a_weak_claim_takes_more_guesses() -> None:
    assert planned_guesses(400, config_of(400)) == 40
    assert planned_guesses(400, config_of(400, 8.0)) == 200


def test_scores_are_those_of_the_coins_as_far_as_the_noise_lets_them() -> None:
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(200, 3000)).astype(np.float32)
    parts /= np.linalg.norm(parts, axis=1, keepdims=True)
    included = rng.random(200) < 0.5
    exact = included @ parts.astype(np.float64)

    def auc(sigma: float, rate: float) -> float:
        noisy = rate * exact + sigma * rng.normal(size=3000)
        found = scores(iter([Seen(noisy, parts, rate)] * 1), 200)
        return float(np.mean(found[included][:, None] > found[~included][None, :]))

    assert auc(0.0, 1.0) == 1.0
    assert 0.7 < auc(1.0, 1.0) < 0.85  # Φ(1 ÷ √2) = 0.76
    assert auc(100.0, 1.0) < 0.6


def test_an_audit_run_takes_no_metrics_that_would_have_canaries_in() -> None:
    demo = find_scenario("demo")
    asked = audit_config(demo, []).evaluation
    assert (asked.audit_canaries, asked.metrics, asked.companions) == (1000, "none", "")
    assert audit_config(demo, ["evaluation.audit_canaries=7"]).evaluation.audit_canaries == 7
    with pytest.raises(ConfigError, match=r"evaluation\.metrics=private in an audit run"):
        audit_config(demo, ["evaluation.metrics=private"])
    with pytest.raises(ConfigError, match=r"needs privacy\.mode=distributed or central"):
        audit_config(find_scenario("local"), [])
    with pytest.raises(ConfigError, match=r"evaluation\.metrics must be 'none' in an audit run"):
        load_config(scenario=demo, overrides=["evaluation.audit_canaries=7"])


OPTIONS = (
    "--audit", "--quiet", "--set=data.dataset=synthetic", "--set=data.sites=3",
    "--set=evaluation.audit_canaries=300", "--set=model.head_dim=4", "--set=model.head_items=0",
    "--set=model.lora_layers=1", "--set=model.lora_rank=2", "--set=model.lora_rows=2",
    "--set=model.item_to_item=true", "--set=privacy.target_epsilon=1",
    "--set=privacy.targets_per_unit=2", "--set=privacy.negatives_per_unit=4",
    "--set=privacy.popularity_noise_multiplier=10", "--set=privacy.cooccurrence_noise_multiplier=4",
    "--set=privacy.max_dropouts=0", "--set=federation.rounds=1", "--set=federation.local_lr=0.1",
    "--set=evaluation.bootstrap_resamples=100", "--run=examined",
)  # fmt: skip


def run_and_audit(fedrec: Command) -> tuple[int, dict[str, Any], Path]:
    code, _, err = fedrec("simulate", "demo", *OPTIONS)
    assert (code, err) == (0, "")
    code, out, _ = fedrec("audit", "examined", "--checks", "A5", "--json", "--quiet")
    return code, json.loads(out), Path("runs/examined")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_canaries_of_a_correct_run_stay_hidden_and_the_run_says_what_it_is(
    fedrec: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    code, audit, run = run_and_audit(fedrec)
    assert code == 0
    own = {f["name"]: f for f in audit["findings"] if f["name"].startswith("run_canaries.")}
    assert own["run_canaries.f_dp"]["verdict"] == "pass"
    assert own["run_canaries.f_dp"]["statistic"]["right"] > 0
    assert audit["pre_registration"]["canaries"]["canaries"] == 300
    for name in ("PRIVACY.md", "report.html", "report.json"):
        assert "Audit run: about half of 300 made-up users" in (run / name).read_text()
    assert "audit_canaries = 300" in (run / "config.toml").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["rows"][0]["users"] == 60  # the real ones alone

    code, out, _ = fedrec("audit", "verify", str(run / "audit.json"))
    assert code == 0
    assert "seed: holds" in out
    assert "canaries: holds: coins tossed again" in out
    scores = json.loads((run / "canaries-secret.json").read_text())["scores"]
    assert str(scores[0]) not in (run / "audit.json").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_without_its_noise_is_refuted_by_its_canaries(
    fedrec: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))

    def without_noise(
        values: Floats, plan: QuantisationPlan, source: RandomSource
    ) -> npt.NDArray[np.uint64]:
        rounded = quantise(values, source.uniform(plan.coordinates), plan)
        return from_signed(rounded, plan.modulus_bits)

    monkeypatch.setattr(client.site_sums, "masked_sum_input", without_noise)
    code, audit, _ = run_and_audit(fedrec)
    assert code == 2
    failed = {f["name"] for f in audit["findings"] if f["verdict"] == "fail"}
    assert "run_canaries.f_dp" in failed

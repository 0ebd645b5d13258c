"""The start-up proof on the real recommender; a broken step must keep the site from training."""

from __future__ import annotations

import pytest
import torch

from client import clipping, unit_updates
from client.private_step import _UnitOptimizer
from client.start_up import prove_private_step
from common.adapters import adapter_of
from common.build_recommender import build_recommender
from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import SelfTestError
from simulations.synthetic import synthetic_dataset

CATALOGUE = synthetic_dataset().catalogue


def config(seed_key: int, **model: object) -> RunConfig:
    """`seed_key` makes configurations distinct, so that no proof is remembered."""
    small = {
        "head_dim": 4,
        "head_items": 0,
        "head_hidden": 0,
        "lora_layers": 1,
        "lora_rank": 2,
        "lora_rows": 4,
    }
    return RunConfig(
        model=ModelConfig(**{**small, **model}),
        privacy=PrivacyConfig(mode="local", noise_multiplier=1.0 + seed_key / 100),
    )


@pytest.mark.parametrize("objective", ["ranking", "click", "rating"])
@pytest.mark.parametrize(("head", "adapter"), [("bilinear", "ffa"), ("multi_lag", "fedit")])
def test_the_real_recommender_passes_and_is_left_as_it_was(
    objective: str, head: str, adapter: str
) -> None:
    run = config(1, objective=objective, head=head, adapter=adapter)
    before = adapter_of(build_recommender(run, CATALOGUE))
    report = prove_private_step(run, CATALOGUE)
    after = adapter_of(build_recommender(run, CATALOGUE))
    assert report.sensitivity <= 1 + 1e-5
    assert all((after[name] == before[name]).all() for name in before)


def test_a_step_without_clipping_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unclipped(optimizer: _UnitOptimizer) -> None:
        for parameter in optimizer.params:
            parameter.summed_grad = parameter.grad_sample.sum(0, dtype=torch.float64)
            parameter.grad_sample = None

    monkeypatch.setattr(_UnitOptimizer, "clip_and_accumulate", unclipped)
    with pytest.raises(SelfTestError, match="moves the clipped sum"):
        prove_private_step(config(2), CATALOGUE)


def test_a_tensor_that_was_not_declared_is_refused() -> None:
    run = config(3, adapter="ffa")
    recommender = build_recommender(run, CATALOGUE)
    factors = [p for n, p in recommender.named_parameters() if "lora_A" in n]
    factors[0].requires_grad_(True)
    try:
        with pytest.raises(SelfTestError, match="not declared"):
            prove_private_step(run, CATALOGUE)
    finally:
        factors[0].requires_grad_(False)


def updates(seed_key: int, **federation: object) -> RunConfig:
    run = config(seed_key)
    return run.model_copy(
        update={
            "privacy": run.privacy.model_copy(update={"clipping": "update"}),
            "federation": FederationConfig(local_steps=2, local_lr=0.05, **federation),
        }
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_round_that_clips_whole_updates_passes_and_leaves_no_trace(optimizer: str) -> None:
    run = updates(10, local_optimizer=optimizer)
    before = adapter_of(build_recommender(run, CATALOGUE))
    report = prove_private_step(run, CATALOGUE)
    after = adapter_of(build_recommender(run, CATALOGUE))
    assert report.clipping == "update"
    assert 1 - 1e-4 < report.sensitivity <= 1 + 1e-5
    assert report.noise_ratio == pytest.approx(1, abs=0.05)
    assert "whole updates of 3 units" in report.lines()[1]
    assert all((after[name] == before[name]).all() for name in before)


def broken_factor(update: object, bound: float, rule: str) -> float:
    return 1.0


def broken_restore(parameters: object, before: object) -> None:
    return None


@pytest.mark.parametrize(
    ("name", "broken", "said"),
    [
        ("_factor", broken_factor, "moves the clipped sum|NaN unit"),
        ("_restore", broken_restore, "passes from unit to unit"),
        ("_ROUND_DOWN", 1.1, "moves the clipped sum by 1.1"),
    ],
)
def test_a_broken_clipping_of_updates_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: object, said: str
) -> None:
    room = clipping if name == "_ROUND_DOWN" else unit_updates
    monkeypatch.setattr(room, name, broken)
    run = updates(11)
    before = adapter_of(build_recommender(run, CATALOGUE))
    with pytest.raises(SelfTestError, match=said):
        prove_private_step(run, CATALOGUE)
    monkeypatch.undo()
    after = adapter_of(build_recommender(run, CATALOGUE))
    assert all((after[name] == before[name]).all() for name in before)


@pytest.mark.parametrize("factor", [0.0, 0.9, 1.1])
def test_a_round_with_the_wrong_noise_is_refused(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    # Of 20,000 numbers or more; a tenth too little or too much is seen every time (1e-9).
    real = unit_updates.noised_sum
    monkeypatch.setattr(
        unit_updates,
        "noised_sum",
        lambda total, deviation, noise: real(total, factor * deviation, noise),
    )
    with pytest.raises(SelfTestError, match="declared standard deviation"):
        prove_private_step(updates(12), CATALOGUE)

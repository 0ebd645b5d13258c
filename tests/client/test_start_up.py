"""The start-up proof on the real recommender; a broken step must keep the site from training."""

from __future__ import annotations

import pytest
import torch

from client.private_step import _UnitOptimizer
from client.start_up import prove_private_step
from common.adapters import adapter_of
from common.build_recommender import build_recommender
from common.config import ModelConfig, PrivacyConfig, RunConfig
from common.errors import SelfTestError
from simulations.synthetic import synthetic_dataset

CATALOGUE = synthetic_dataset().catalogue


def config(seed_key: int, **model: object) -> RunConfig:
    """`seed_key` makes configurations distinct, so that no proof is remembered."""
    small = {"head_dim": 4, "head_hidden": 0, "lora_layers": 1, "lora_rank": 2, "lora_rows": 4}
    return RunConfig(
        model=ModelConfig(**{**small, **model}),
        privacy=PrivacyConfig(noise_multiplier=1.0 + seed_key / 100),
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

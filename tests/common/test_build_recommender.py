"""One recommender per model, device and precision; bfloat16 changes only rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.build_recommender import build_recommender
from common.config import EngineConfig, RunConfig
from tests.training_case import DATASET, small_config, some_batch, some_units

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def on(device: str, precision: str = "fp32") -> RunConfig:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    engine = EngineConfig(device=device, precision=precision)
    return small_config({"lora_layers": 1}).model_copy(update={"engine": engine})


@pytest.mark.parametrize("device", DEVICES)
def test_bf16_changes_only_rounding(device: str) -> None:
    run = on(device, "bf16")
    full = build_recommender(on(device), DATASET.catalogue)
    half = build_recommender(run, DATASET.catalogue)
    assert build_recommender(run, DATASET.catalogue) is half
    assert half.item_tower.prefix.states.dtype == torch.bfloat16
    frozen = {p.dtype for n, p in half.item_tower.named_parameters() if "lora_" not in n}
    adapter = {p.dtype for n, p in half.named_parameters() if "lora_" in n or p.requires_grad}
    assert (frozen, adapter, half.table().dtype) == (
        {torch.bfloat16},
        {torch.float32},
        torch.float32,
    )
    # The constants come from float32, so that sites of either precision train one model.
    for name in ("mean", "softening"):
        constants = getattr(half.whitening, name), getattr(full.whitening, name)
        torch.testing.assert_close(*constants, atol=1e-4, rtol=1e-3)
    histories = [unit.items for unit in some_units(run, 8)]
    scores = np.stack([full.score_all(histories).ravel(), half.score_all(histories).ravel()])
    assert np.corrcoef(scores)[0, 1] > 0.995
    batch = some_batch(half, run)
    losses = [each.unit_losses(batch).detach().cpu() for each in (full, half)]
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], atol=0.1, rtol=0.1)
    assert not torch.equal(losses[1], losses[0])

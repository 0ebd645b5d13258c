"""On a CUDA device: frozen states, item table and scores against the CPU's; how fast a step is.

Training on the device is compared in `tests/client/test_other_device.py`. TF32 is off by
default for matrix products, so that float32 differs by rounding alone.
"""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from client.local_steps import drawn, local_optimizer, losses
from client.private_step import PrivateStep
from common.base_weights import MINILM, load_bert, load_tokenizer, resolve_base_weights
from common.build_recommender import build_recommender
from common.config import EngineConfig, RunConfig
from common.devices import device_label, free_memory_bytes, resolve_device
from common.frozen_prefix import frozen_prefix
from common.randomness import seeded_source
from tests.training_case import DATASET, small_config, some_units

pytestmark = pytest.mark.gpu

ROUNDING = 5e-4  # of float32 sums in another order, at values of a few units
STEPS = 20


@pytest.fixture(autouse=True)
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return resolve_device("cuda")


def on(run: RunConfig, **engine: object) -> RunConfig:
    return run.model_copy(update={"engine": EngineConfig(**engine)})


def test_frozen_states_are_the_cpus(device: torch.device, tmp_path: Path) -> None:
    weights = resolve_base_weights(MINILM)
    tokenizer, made = load_tokenizer(weights), []
    for where in (torch.device("cpu"), device):
        made.append(
            frozen_prefix(
                load_bert(weights).to(where),
                tokenizer,
                DATASET.catalogue.texts,
                layers=4,
                max_tokens=32,
                weights_sha256=weights.sha256,
                cache=tmp_path / where.type,
            )
        )
    assert torch.equal(made[0].offsets, made[1].offsets)
    torch.testing.assert_close(made[1].states, made[0].states, atol=ROUNDING, rtol=ROUNDING)
    assert made[1].on(device).states.device == device


def test_auto_takes_the_gpu_and_scores_are_the_cpus(device: torch.device) -> None:
    run = small_config({})
    here = build_recommender(on(run, device="cpu"), DATASET.catalogue)
    there = build_recommender(on(run, device="auto"), DATASET.catalogue)
    assert (here.device.type, there.device, there.table().device) == ("cpu", device, device)
    torch.testing.assert_close(there.table().cpu(), here.table(), atol=0.02, rtol=0.02)
    histories = [unit.items for unit in some_units(run, 8)]
    scores, expected = there.score_all(histories), here.score_all(histories)
    np.testing.assert_allclose(scores, expected, atol=5e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_private_step_of_the_default_model_runs_and_is_measured(
    device: torch.device, precision: str, record_property: Callable[[str, object], None]
) -> None:
    run = on(RunConfig(), device="cuda", precision=precision)
    recommender = copy.deepcopy(build_recommender(run, DATASET.catalogue))
    recommender.train()
    source, units = seeded_source(0, "step"), some_units(run, 64)
    contributions = [drawn(recommender, unit, run, source) for unit in units]
    with PrivateStep(
        recommender,
        local_optimizer(recommender, run, 1),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_units=64.0,
        source=source,
        microbatch_units=64,
    ) as step:
        step.step(contributions, lambda some: losses(recommender, some, run))
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        for _ in range(STEPS):
            step.step(contributions, lambda some: losses(recommender, some, run))
        busy = torch.cuda.utilization(device) if importlib.util.find_spec("pynvml") else None
        torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    record_property("device", device_label(device))
    record_property("units_per_second", STEPS * len(units) / seconds)
    record_property("utilisation_percent", busy)
    record_property("peak_memory_bytes", torch.cuda.max_memory_allocated(device))
    print(
        f"{device_label(device)} {precision}: {STEPS * len(units) / seconds:.0f} units/s, {busy}%"
    )
    assert all(bool(p.isfinite().all()) for p in recommender.parameters())
    assert free_memory_bytes(device) > 0

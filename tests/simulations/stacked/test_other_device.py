"""Stacked rounds on another device than the CPU give the CPU's results.

As `tests/client/test_other_device.py`: a second device that refuses to mix with the CPU, and
with the marker `gpu` a CUDA device.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from client.training_job import TrainingJob
from common.adapters import adapter_of
from common.config import RunConfig
from common.randomness import seeded_source
from common.recommender import Recommender
from simulations.stacked.limits import Limits
from simulations.stacked.stacked_training import gradient_rounds, plain_rounds, update_sums
from simulations.stacked.unit_gradients import Tensors
from tests.second_device import second_device
from tests.training_case import DATASET, MODELS, moved_recommender, small_config, some_units

LIMITS = Limits(units=3, tokens_per_pass=100, encoded_tokens=10_000)
TOLERANCE = {"meta": 1e-5, "cuda": 2e-4}
ROUNDS = {"gradient": gradient_rounds, "plain": plain_rounds, "update": update_sums}


@pytest.fixture(params=["second", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "second":
        with second_device() as second:
            yield second
        return
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    yield torch.device("cuda", 0)


def on(device: torch.device, run: RunConfig) -> Recommender:
    recommender = moved_recommender(run)
    recommender.item_tower.prefix = recommender.item_tower.prefix.on(device)
    recommender.to(device)
    recommender.set_item_prior(recommender.item_prior)
    return recommender


def jobs(run: RunConfig) -> list[TrainingJob]:
    units = some_units(run, 5)
    return [
        TrainingJob(
            site=f"site-{site}",
            config=run,
            catalogue=DATASET.catalogue,
            units=units[part],
            adapter={},
            item_prior=np.zeros(0, np.float32),
            server_round=1,
            expected_units=2.0,
            sampling=seeded_source(2, site, "sampling"),
            noise=seeded_source(2, site, "noise"),
        )
        for site, part in enumerate((slice(0, 1), slice(1, 5)))
    ]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        *(pytest.param(name, "gradient", marks=pytest.mark.slow) for name in MODELS),
        ("history with gradient", "update"),
        ("fedit, multi-lag, trained terms", "plain"),
    ],
)
def test_stacked_rounds_are_the_cpus(device: torch.device, model: str, kind: str) -> None:
    run = small_config(MODELS[model], mode="none" if kind == "plain" else "local")
    expected = ROUNDS[kind](moved_recommender(run), jobs(run), LIMITS)
    got = ROUNDS[kind](on(device, run), jobs(run), LIMITS)
    start = adapter_of(moved_recommender(run))
    for one, other in zip(got, expected, strict=True):
        _assert_close(one, other, TOLERANCE[device.type])
    assert any((tensor.numpy() != start[name]).any() for name, tensor in expected[1].items())


def _assert_close(got: Tensors, expected: Tensors, tolerance: float) -> None:
    assert list(got) == list(expected)
    for name, tensor in expected.items():
        found = got[name].cpu().numpy()
        np.testing.assert_allclose(found, tensor.numpy(), atol=tolerance, err_msg=name)

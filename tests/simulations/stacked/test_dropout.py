"""Dropout of stacked plain training: every site's own stream, whatever is trained beside it."""

from __future__ import annotations

import numpy as np
import torch

from client.training_job import TrainingJob
from common.adapters import Adapter
from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.holdout import hold_out
from common.initial_adapter import initial_adapter
from common.privacy_units import make_units
from common.randomness import seeded_source
from simulations.stacked import StackedTrainer
from simulations.stacked.adapter_stack import AdapterStack
from simulations.stacked.dropout_masks import DropoutMasks
from simulations.synthetic import synthetic_dataset

DATASET = synthetic_dataset()


def updates(sites: list[int], dropout: float) -> list[Adapter]:
    run = RunConfig(
        model=ModelConfig(
            item_side="head", head="multi_lag", head_dim=4, head_hidden=8, dropout=dropout
        ),
        privacy=PrivacyConfig(mode="none", targets_per_unit=4, negatives_per_unit=7),
        federation=FederationConfig(local_steps=2, local_lr=0.3, units_per_step=3),
    )
    splits = hold_out(DATASET.interactions, DATASET.catalogue, split=run.data.split, seed=0)
    units = make_units(splits, max_history=run.model.max_history)
    jobs = [
        TrainingJob(
            site=f"site-{site}",
            config=run,
            catalogue=DATASET.catalogue,
            units=units[5 * site : 5 * site + 5],
            adapter=initial_adapter(run),
            item_prior=np.zeros(0, np.float32),
            server_round=1,
            expected_units=5.0,
            sampling=seeded_source(1, site, "sampling"),
            noise=None,
        )
        for site in sites
    ]
    return StackedTrainer().updates(jobs)


def test_a_site_draws_the_same_masks_alone_and_beside_others() -> None:
    together, alone = updates([0, 1, 2], 0.5)[1], updates([1], 0.5)[0]
    for name, array in alone.items():
        np.testing.assert_allclose(together[name], array, atol=1e-6, err_msg=name)


def test_dropout_changes_what_is_learned() -> None:
    assert any(np.abs(a - b).max() > 1e-4 for a, b in _pairs(updates([1], 0.5), updates([1], 0.0)))


def test_masks_keep_the_expectation() -> None:
    stack = AdapterStack({"any": torch.zeros(1)}, copies=2)
    stack.look(torch.tensor([0, 1]))
    masks = DropoutMasks(stack, [seeded_source(0, "a"), seeded_source(0, "b")])
    drawn = masks(torch.ones(2, 100_000), 0.2)
    assert set(drawn.unique().tolist()) == {0.0, 1.25}
    assert not torch.equal(drawn[0], drawn[1])
    # 10 standard errors of the mean: 0.5 / sqrt(200,000) each
    assert abs(float(drawn.mean()) - 1.0) < 10 * 0.5 / 200_000**0.5


def _pairs(one: list[Adapter], other: list[Adapter]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(one[0][name], other[0][name]) for name in one[0]]

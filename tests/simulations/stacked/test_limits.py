"""How a step is cut into parts is a matter of memory, never of results."""

from __future__ import annotations

import numpy as np
import pytest

from common.build_recommender import build_recommender
from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.holdout import hold_out
from common.initial_adapter import initial_adapter
from common.loaded_recommender import loaded_recommender
from common.privacy_units import Unit, draw_contribution, make_units
from common.randomness import seeded_source
from simulations.stacked.limits import Limits, limits_for, token_bytes
from simulations.stacked.stacked_steps import StackedSteps
from simulations.stacked.unit_gradients import Tensors
from simulations.synthetic import synthetic_dataset

DATASET = synthetic_dataset()
RUN = RunConfig(
    model=ModelConfig(head_dim=4, head_items=3, lora_rank=2, adapter="fedit"),
    privacy=PrivacyConfig(
        mode="local", max_grad_norm=0.3, targets_per_unit=4, negatives_per_unit=7
    ),
    federation=FederationConfig(local_lr=0.5, lora_lr_scale=1.0),
)
WIDE = Limits(units=64, tokens_per_pass=100_000, encoded_tokens=100_000)
COPIES = 3


def units() -> list[Unit]:
    splits = hold_out(DATASET.interactions, DATASET.catalogue, split=RUN.data.split, seed=0)
    return make_units(splits, max_history=RUN.model.max_history)


def sums(limits: Limits, *, left_out: int | None = None) -> Tensors:
    """Clipped sums of three sites after a first step has parted their adapters."""
    adapter = initial_adapter(RUN)
    spread = np.random.default_rng(3)
    for name, array in adapter.items():
        adapter[name] = array + 0.05 * spread.standard_normal(array.shape, np.float32)
    model = loaded_recommender(RUN, DATASET.catalogue, adapter, np.zeros(0, np.float32))
    source = seeded_source(0, "limits")
    drawn = [
        draw_contribution(
            unit,
            catalogue_size=len(DATASET.catalogue),
            targets=4,
            negatives=7,
            lora_rows=4,
            source=source,
        )
        for unit in units()[:9]
    ]
    first = [drawn[:2], drawn[2:5], drawn[5:7]]
    second = [drawn[3:5], [], [u for at, u in enumerate(drawn) if at != left_out]]
    steps = StackedSteps(model, COPIES, RUN, server_round=1, limits=limits)
    steps.step({name: -total for name, total in steps.clipped_sums(first).items()})
    return steps.clipped_sums(second)


def norm(tensors: Tensors, copy: int) -> float:
    return float(np.sqrt(sum(float(t[copy].square().sum()) for t in tensors.values())))


@pytest.mark.parametrize(
    "limits",
    [
        Limits(units=1, tokens_per_pass=1, encoded_tokens=1),
        Limits(units=2, tokens_per_pass=70, encoded_tokens=60),
        Limits(units=64, tokens_per_pass=40, encoded_tokens=100_000),
    ],
)
def test_small_parts_give_the_same_sums(limits: Limits) -> None:
    expected = sums(WIDE)
    for name, total in sums(limits).items():
        np.testing.assert_allclose(total, expected[name], rtol=0, atol=1e-6, err_msg=name)


def test_a_copy_without_units_sums_to_exactly_zero() -> None:
    assert norm(sums(WIDE), 1) == 0.0


@pytest.mark.parametrize("left_out", range(9))
def test_one_unit_moves_its_own_sum_by_at_most_the_bound_and_no_other(left_out: int) -> None:
    everybody, others = sums(WIDE), sums(WIDE, left_out=left_out)
    difference = {name: everybody[name] - others[name] for name in everybody}
    assert 0 < norm(difference, 2) <= RUN.privacy.max_grad_norm * (1 + 1e-6)
    assert norm(difference, 0) == 0.0


def test_a_larger_budget_never_makes_smaller_parts_and_the_smallest_still_works() -> None:
    model = build_recommender(RUN, DATASET.catalogue)
    small, large = limits_for(model, 1), limits_for(model, 2**34)
    assert small == Limits(units=1, tokens_per_pass=1, encoded_tokens=1)
    assert large.units > 1
    assert large.tokens_per_pass > 1
    assert large.encoded_tokens * token_bytes(model) <= 2**33

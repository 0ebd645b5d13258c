"""A full softmax: the catalogue as every unit's candidates, and LoRA's share of its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.local_training import train_plain
from common.adapters import adapter_of, trainable_parameters
from common.config import RunConfig
from common.config_loading import load_config
from common.errors import ConfigError
from common.full_softmax import full_softmax_batch, live_rows
from common.privacy_units import Contribution, UnitBatch, collate
from common.randomness import seeded_source
from common.recommender import Recommender
from simulations.companions import companion_config
from simulations.trainers import batch_trainer
from tests.training_case import (
    DATASET,
    moved_recommender,
    small_config,
    some_contributions,
    some_units,
)

ITEMS = len(DATASET.catalogue)
MULTI_LAG: dict[str, object] = {"head": "multi_lag", "score_terms": "trained", "dropout": 0.2}


def full(model: dict[str, object], **changes: object) -> RunConfig:
    config = small_config(model | {"dropout": 0.0}, mode="none", negatives_per_unit=0)
    return companion_config(config, changes)


def shared(recommender: Recommender, run: RunConfig, rows: int, seed: int = 3) -> UnitBatch:
    return full_softmax_batch(
        some_contributions(recommender, some_units(run, 4), run),
        catalogue_size=ITEMS,
        max_history=run.model.max_history,
        lora_rows=rows,
        source=seeded_source(seed, "rows"),
    )


def own_catalogue(contribution: Contribution) -> Contribution:
    """The same contribution, with every item as a candidate of its own."""
    return replace(
        contribution,
        candidates=np.arange(ITEMS),
        target_columns=contribution.unit.items[contribution.positions],
        live_scale=np.zeros(0, dtype=np.float32),
    )


@pytest.mark.parametrize(
    "model",
    [
        {"head_items": 20, "head_matrix": "symmetric"},
        {"head": "multi_lag", "score_terms": "trained"},
        {"head_matrix": "per_lag", "objective": "click"},
    ],
)
def test_it_is_the_loss_of_units_that_each_hold_the_catalogue(model: dict[str, object]) -> None:
    run = full(model)
    recommender = moved_recommender(run)
    alone = collate(
        [own_catalogue(c) for c in some_contributions(recommender, some_units(run, 4), run)],
        max_history=run.model.max_history,
    )
    with torch.no_grad():
        expected = recommender.unit_losses(alone)
        torch.testing.assert_close(recommender.unit_losses(shared(recommender, run, 0)), expected)
        # Rows with a gradient have the values of the others.
        torch.testing.assert_close(recommender.unit_losses(shared(recommender, run, 5)), expected)


def test_a_units_training_items_are_no_rivals_and_all_others_are() -> None:
    run = full({})
    batch = shared(moved_recommender(run), run, 6)
    for row, unit in enumerate(some_units(run, 4)):
        rivals = batch.candidates[0][batch.others_allowed[row]]
        assert sorted(rivals.tolist()) == sorted(set(range(ITEMS)) - set(unit.positives.tolist()))
    found = batch.candidates[0][batch.target_columns]
    assert (found == batch.target_items)[batch.target_mask].all()


@given(
    targets=st.lists(st.integers(0, 11), min_size=1, max_size=30),
    draws=st.integers(0, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_live_rows_are_distinct_items_within_the_draws(
    targets: list[int], draws: int, seed: int
) -> None:
    items, scale = live_rows(np.array(targets), 12, draws, seeded_source(seed, "rows"))
    assert len(items) == len(set(items.tolist())) == len(scale) <= draws
    assert ((items >= 0) & (items < 12)).all()
    assert (scale > 0).all()


def test_live_rows_stand_for_all_rows_on_average() -> None:
    """E[scale] is 1 for every item: the drawn gradient is unbiased for the whole one."""
    targets, source, trials = np.array([0, 0, 0, 5, 7]), seeded_source(4, "rows"), 4000
    total = np.zeros(12)
    for _ in range(trials):
        items, scale = live_rows(targets, 12, 6, source)
        total[items] += scale
    # An item's scale is binomial ÷ its mean; the rarest is expected 3 / 12 times.
    deviation = np.sqrt(1 / (3 / 12) / trials)
    np.testing.assert_allclose(total / trials, 1.0, atol=5 * deviation)


@pytest.mark.slow
def test_loras_gradient_is_that_of_the_whole_catalogue_on_average() -> None:
    run = full({})
    recommender = moved_recommender(run)
    lora = [p for n, p in trainable_parameters(recommender).items() if "lora_" in n]

    def gradient(batch: UnitBatch) -> torch.Tensor:
        loss = recommender.unit_losses(batch).sum()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, lora)])

    every = shared(recommender, run, 0)
    live = replace(every, live=ITEMS, live_scale=torch.ones(1, ITEMS))
    drawn = torch.stack([gradient(shared(recommender, run, 8, seed)) for seed in range(60)])
    error = drawn.mean(0) - gradient(live)
    deviation = drawn.std(0) / np.sqrt(len(drawn))
    assert (error.abs() > 4 * deviation).float().mean() < 0.01
    assert error.norm() < 0.5 * gradient(live).norm()


def trained(run: RunConfig, noise: int) -> dict[str, np.ndarray]:
    torch.manual_seed(noise)
    recommender = moved_recommender(run)
    sampling = seeded_source(1, "sampling")
    train_plain(recommender, some_units(run, 6), run, server_round=1, sampling=sampling)
    return adapter_of(recommender)


def test_training_repeats_with_dropout_whatever_torchs_own_generator() -> None:
    run = full(MULTI_LAG, **{"model.dropout": 0.3})
    one, two = trained(run, 1), trained(run, 2)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    undropped = trained(full(MULTI_LAG), 1)
    assert any(not np.array_equal(one[name], undropped[name]) for name in one)
    torch.manual_seed(1)
    expected = torch.rand(3)
    trained(run, 1)
    assert torch.equal(torch.rand(3), expected)  # torch's own generator went on from its seed


def test_training_lowers_the_loss() -> None:
    changes = {"federation.local_steps": 25, "federation.local_optimizer": "adam"}
    run = full(
        MULTI_LAG, **{**changes, "federation.local_lr": 0.01, "federation.lora_lr_scale": 1.0}
    )
    recommender, units = moved_recommender(run), some_units(run, 12)
    fixed = shared(recommender, run, 0)
    with torch.no_grad():
        before = recommender.unit_losses(fixed).mean()
    train_plain(recommender, units, run, server_round=1, sampling=seeded_source(1, "sampling"))
    recommender.keep_table_for("trained")
    with torch.no_grad():
        assert recommender.unit_losses(fixed).mean() < 0.98 * before


def test_sites_train_one_by_one_there_is_nothing_to_stack() -> None:
    assert type(batch_trainer(full({}))) is not type(batch_trainer(small_config({}, mode="none")))


@pytest.mark.parametrize(
    ("other", "remedy"),
    [
        ({"privacy.mode": "local"}, "must be at least 1 in a private mode.*privacy.mode=none"),
        ({"privacy.mode": "none", "model.history_gradient": True}, "history_gradient=false"),
    ],
)
def test_units_that_need_candidates_of_their_own_have_no_full_softmax(
    other: dict[str, object], remedy: str
) -> None:
    with pytest.raises(ConfigError, match=f"(?s)negatives_per_unit.*{remedy}"):
        load_config(flat={"privacy.negatives_per_unit": 0, **other})

"""Training on the real recommender: per-unit gradients, objectives, adapters, bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.grad_samplers import UnitGradients
from client.local_steps import learning_rate, local_optimizer
from client.local_training import train_plain, train_private
from client.private_step import PrivateStep
from common.adapters import adapter_of, trainable_parameters
from common.build_recommender import build_recommender
from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import DataError
from common.holdout import hold_out
from common.privacy_units import Contribution, Unit, collate, draw_contribution, make_units
from common.randomness import seeded_source
from common.recommender import Recommender
from simulations.synthetic import synthetic_dataset

DATASET = synthetic_dataset()


def config(**sections: dict[str, object]) -> RunConfig:
    model = {"head_dim": 6, "head_items": 0, "lora_layers": 2, "lora_rank": 2, "lora_rows": 4}
    model |= {"head_matrix": "per_lag", "score_terms": "trained", "head_hidden": 0}
    privacy = {
        "mode": "local",
        "targets_per_unit": 4,
        "negatives_per_unit": 7,
        "noise_multiplier": 1.0,
    }
    return RunConfig(
        model=ModelConfig(**{**model, **sections.get("model", {})}),
        privacy=PrivacyConfig(**{**privacy, **sections.get("privacy", {})}),
        federation=FederationConfig(**{"local_lr": 0.05, **sections.get("federation", {})}),
    )


def recommender_of(run: RunConfig) -> Recommender:
    """The recommender with its adapter moved away from the start, where B is zero."""
    recommender = build_recommender(run, DATASET.catalogue)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trainable_parameters(recommender).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    recommender.keep_table_for(repr(run))
    return recommender


def units_of(run: RunConfig) -> list[Unit]:
    splits = hold_out(
        DATASET.interactions, DATASET.catalogue, split=run.data.split, seed=run.data.seed
    )
    return make_units(splits, max_history=run.model.max_history)


def contributions_of(run: RunConfig, count: int) -> list[Contribution]:
    source = seeded_source(1, "contributions")
    short = [u for u in units_of(run) if len(u.items) < 8][:2]
    chosen = (short + units_of(run))[:count]
    return [
        draw_contribution(
            unit,
            catalogue_size=len(DATASET.catalogue),
            targets=run.privacy.targets_per_unit,
            negatives=run.privacy.negatives_per_unit,
            lora_rows=run.model.lora_rows if run.model.item_side != "head" else 0,
            source=source,
        )
        for unit in chosen
    ]


@pytest.mark.parametrize("objective", ["ranking", "click", "rating"])
@pytest.mark.parametrize(
    ("adapter", "head"),
    [
        ("ffa", {"head": "multi_lag"}),
        ("ffa", {"head": "bilinear"}),
        ("fedit", {"head": "bilinear"}),
        ("ffa", {"head_items": 20, "head_matrix": "symmetric", "score_terms": "fixed"}),
        ("ffa", {"head_items": 20, "head_matrix": "per_lag"}),
        ("ffa", {"head": "multi_lag", "history_gradient": True}),
        ("fedit", {"head_matrix": "symmetric", "history_gradient": True}),
    ],
)
def test_per_unit_gradients_equal_an_autograd_loop_over_users(
    objective: str, adapter: str, head: dict[str, object]
) -> None:
    run = config(model={"objective": objective, "adapter": adapter, **head})
    recommender = recommender_of(run)
    contributions = contributions_of(run, 5)

    def losses(batch: Sequence[Contribution]) -> torch.Tensor:
        return recommender.unit_losses(collate(batch, max_history=run.model.max_history))

    recommender.train()
    gradients = UnitGradients(recommender)
    together = {n: g.clone() for n, g in gradients.backward(contributions, losses).items()}
    gradients.close()
    named = {n: p for n, p in recommender.named_parameters() if p.requires_grad}
    for row, contribution in enumerate(contributions):
        recommender.zero_grad(set_to_none=True)
        losses([contribution]).sum().backward()
        for name, parameter in named.items():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(
                together[name][row], expected, atol=1e-5, rtol=1e-4, msg=f"{name} unit {row}"
            )
    recommender.zero_grad(set_to_none=True)
    recommender.eval()


@pytest.mark.parametrize("matrix", ["symmetric", "per_lag"])
def test_per_unit_gradients_of_joint_outputs_equal_an_autograd_loop(matrix: str) -> None:
    test_per_unit_gradients_equal_an_autograd_loop_over_users(
        "click_rating", "ffa", {"head_items": 20, "head_matrix": matrix}
    )


def test_joint_outputs_train_the_shared_matrix_by_ratings_within_the_scale() -> None:
    run = config(model={"objective": "click_rating", "rating_weight": 2.0})
    recommender, contributions = recommender_of(run), contributions_of(run, 4)
    batch = collate(contributions, max_history=run.model.max_history)
    recommender.train()
    gradients = []
    for ratings in (batch.ratings, 6 - batch.ratings):  # the clicks are the same
        recommender.zero_grad(set_to_none=True)
        recommender.unit_losses(replace(batch, ratings=ratings)).sum().backward()
        assert recommender.head.mix.weight.grad is not None
        gradients.append(recommender.head.mix.weight.grad.clone())
    assert (gradients[0] - gradients[1]).abs().max() > 1e-4
    histories = [unit.items for unit in units_of(run)[:3]]
    predicted = recommender.predicted_ratings(histories)
    assert predicted.shape == (3, len(DATASET.catalogue))
    assert (predicted.min() >= 1, predicted.max() <= 5, predicted.std() > 0) == (True,) * 3
    clicks = recommender_of(config(model={"objective": "click"}))
    with pytest.raises(DataError, match="has no output of ratings"):
        clicks.predicted_ratings(histories)


def test_a_unit_does_not_feel_its_neighbours() -> None:
    # A short unit has fewer live rows than its neighbour; its loss must not change for it,
    # even after the adapter has moved away from the item table.
    run = config()
    recommender = recommender_of(run)
    recommender.table()
    with torch.no_grad():
        for name, parameter in recommender.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
    source = seeded_source(2)
    one_item = Unit("u", np.array([3]), np.ones(1, np.float32), np.array([3]))
    drawn = [
        draw_contribution(
            unit, catalogue_size=80, targets=4, negatives=1, lora_rows=4, source=source
        )
        for unit in (one_item, units_of(run)[0])
    ]
    assert len(drawn[0].live_scale) < len(drawn[1].live_scale)
    with torch.no_grad():
        alone = recommender.unit_losses(collate(drawn[:1], max_history=150))
        together = recommender.unit_losses(collate(drawn, max_history=150))
    torch.testing.assert_close(together[0], alone[0], atol=1e-5, rtol=1e-5)


def test_the_clipped_sum_on_the_real_model_is_bounded() -> None:
    run = config(privacy={"max_grad_norm": 1e-3})
    recommender = recommender_of(run)
    recommender.train()
    contributions = contributions_of(run, 6)
    seen: list[float] = []

    def observe(stage: str, tensors: dict[str, torch.Tensor]) -> None:
        if stage == "clipped_sum":
            seen.append(float(sum(t.double().square().sum() for t in tensors.values()) ** 0.5))

    for count in (1, 6):
        with PrivateStep(
            recommender,
            local_optimizer(recommender, run, 1),
            noise_multiplier=1.0,
            max_grad_norm=1e-3,
            expected_units=6.0,
            source=seeded_source(3),
            observe=observe,
        ) as step:
            step.step(
                contributions[:count],
                lambda batch: recommender.unit_losses(collate(batch, max_history=150)),
            )
    assert seen[0] <= 1e-3 * (1 + 1e-5)
    assert seen[0] >= 1e-3 * 0.99  # the gradient is larger than C, so clipping bites
    assert seen[1] <= 6e-3 * (1 + 1e-5)
    recommender.eval()


def test_only_declared_tensors_move_and_all_of_them_do() -> None:
    run = config()
    recommender = recommender_of(run)
    frozen = {
        n: p.detach().clone() for n, p in recommender.named_parameters() if not p.requires_grad
    }
    before = adapter_of(recommender)
    train_private(
        recommender,
        units_of(run)[:5],
        run,
        server_round=1,
        expected_units=5.0,
        sampling=seeded_source(1, "s"),
        noise=seeded_source(1, "n"),
    )
    after = adapter_of(recommender)
    assert all((after[name] != before[name]).any() for name in before)
    for name, parameter in recommender.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]), name


@pytest.mark.parametrize("objective", ["ranking", "click", "rating", "click_rating"])
def test_plain_training_lowers_the_loss(objective: str) -> None:
    run = config(
        model={"objective": objective},
        privacy={"mode": "none"},
        federation={
            "local_steps": 30,
            "units_per_step": 16,
            "local_optimizer": "adam",
            "local_lr": 0.01,
            "lora_lr_scale": 1.0,
        },
    )
    recommender = recommender_of(run)
    fixed = collate(contributions_of(run, 30), max_history=150)
    with torch.no_grad():
        before = recommender.unit_losses(fixed).mean()
    train_plain(recommender, units_of(run), run, server_round=1, sampling=seeded_source(1))
    with torch.no_grad():
        after = recommender.unit_losses(fixed).mean()
    assert after < 0.98 * before


def test_the_learning_rate_follows_its_schedule() -> None:
    cosine = config(federation={"lr_schedule": "cosine", "rounds": 4, "local_lr": 2.0})
    rates = [learning_rate(cosine, r) for r in (1, 2, 3, 4)]
    assert rates[0] == 2.0
    assert rates[2] == pytest.approx(1.0)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
    constant = config(federation={"rounds": 4, "local_lr": 2.0})
    assert {learning_rate(constant, r) for r in (1, 2, 3, 4)} == {2.0}

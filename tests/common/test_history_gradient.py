"""`model.history_gradient`: the history carries LoRA's gradient too, unit by unit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.config_loading import load_config
from common.errors import ConfigError
from common.privacy_units import UnitBatch
from common.recommender import Recommender
from tests.training_case import moved_recommender, small_config, some_batch

ALL_ROWS = 100  # more than a unit has candidates: every one is live


def lora_gradient(
    recommender: Recommender, batch: UnitBatch, weights: torch.Tensor
) -> torch.Tensor:
    recommender.zero_grad(set_to_none=True)
    (recommender.unit_losses(batch) * weights).sum().backward()
    named = dict(recommender.named_parameters())
    return torch.cat([p.grad.flatten() for n, p in named.items() if "lora_B" in n])


@pytest.mark.parametrize("model", [{"head": "multi_lag"}, {"head_matrix": "symmetric"}])
def test_with_all_candidates_live_it_is_the_gradient_through_every_row(
    model: dict[str, object],
) -> None:
    run = small_config({**model, "lora_layers": 1, "lora_rows": ALL_ROWS, "history_gradient": True})
    recommender = moved_recommender(run)
    batch = some_batch(recommender, run)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    measured = lora_gradient(recommender, batch, weights)
    # The same loss with every vector looked up in an item table that carries the gradient.
    everything = recommender.item_tower(torch.arange(len(recommender.item_prior)))
    object.__setattr__(recommender, "_table", recommender.whitening(everything))
    recommender.config = run.model.model_copy(update={"history_gradient": False})
    looked_up = replace(batch, live=0, live_scale=batch.live_scale[:, :0])
    expected = lora_gradient(recommender, looked_up, weights)
    torch.testing.assert_close(measured, expected, atol=1e-5, rtol=1e-4)


def test_without_it_the_history_carries_none() -> None:
    weights = torch.ones(4)
    gradients = []
    for switch in (False, True):
        run = small_config({"lora_layers": 1, "lora_rows": ALL_ROWS, "history_gradient": switch})
        recommender = moved_recommender(run)
        gradients.append(lora_gradient(recommender, some_batch(recommender, run), weights))
    assert float((gradients[0] - gradients[1]).norm()) > 1e-3 * float(gradients[1].norm())


@pytest.mark.parametrize("model", [{"head": "multi_lag"}, {"head_matrix": "symmetric"}])
def test_a_unit_does_not_feel_its_neighbours(model: dict[str, object]) -> None:
    run = small_config({**model, "lora_layers": 1, "history_gradient": True})
    recommender = moved_recommender(run)
    batch = some_batch(recommender, run)
    widths = batch.history_mask.sum(1)
    assert len(set(widths.tolist())) > 1  # some histories are padded
    losses = recommender.unit_losses(batch).detach()
    other = replace(batch, history=batch.history.clone(), candidates=batch.candidates.clone())
    other.history[1:], other.candidates[1:] = 3, 5
    torch.testing.assert_close(recommender.unit_losses(other)[0].detach(), losses[0])
    # What pads a history is a real item's row, and counts for nothing.
    padding = replace(batch, history=torch.where(batch.history_mask, batch.history, 7))
    torch.testing.assert_close(recommender.unit_losses(padding).detach(), losses)
    weights = torch.ones(4)
    torch.testing.assert_close(
        lora_gradient(recommender, padding, weights), lora_gradient(recommender, batch, weights)
    )


def test_it_needs_lora_to_be_trained() -> None:
    with pytest.raises(ConfigError, match="model.history_gradient needs LoRA.*item_side=both"):
        load_config(flat={"model.history_gradient": True, "model.item_side": "head"})
    assert load_config(flat={"model.history_gradient": True}).model.history_gradient

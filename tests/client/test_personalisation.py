"""A site's own user tower: what it trains, what it leaves alone, and that nothing stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.personalisation import personal_tower, user_side
from common.adapters import trainable_parameters
from common.config import RunConfig
from common.privacy_units import Unit, collate, draw_contribution
from common.randomness import seeded_source
from common.recommender import Recommender
from simulations.companions import companion_config
from tests.training_case import MODELS, moved_recommender, small_config, some_units


def personal_config(model: dict[str, object], steps: int = 8) -> RunConfig:
    changes = {
        "evaluation.companions": "last_fifth",
        "evaluation.personal_steps": steps,
        "evaluation.personal_lr": 0.02,
    }
    return companion_config(small_config(model), changes)


def loss(recommender: Recommender, units: list[Unit]) -> float:
    source = seeded_source(9, "loss")
    drawn = [
        draw_contribution(
            unit, catalogue_size=80, targets=20, negatives=40, lora_rows=0, source=source
        )
        for unit in units
    ]
    recommender.eval()
    with torch.no_grad():
        return float(recommender.unit_losses(collate(drawn, max_history=150)).mean())


def state(recommender: Recommender) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in recommender.named_parameters()}


QUICK = ("bilinear with codes", "fedit, multi-lag, trained terms")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(model, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, model in MODELS.items()
    ],
)
def test_it_fits_the_sites_users_and_trains_the_user_side_alone(model: dict[str, object]) -> None:
    config = personal_config(model)
    recommender, units = moved_recommender(config), some_units(config, 6)
    before, trained = state(recommender), set(trainable_parameters(recommender))
    scores = recommender.score_all([units[0].items])
    global_loss = loss(recommender, units)
    with personal_tower(recommender, units, config, seeded_source(1, "personal")):
        assert loss(recommender, units) < global_loss
        moved = {n for n, p in state(recommender).items() if not torch.equal(p, before[n])}
        assert any(name.startswith("score.") for name in moved)  # also where they are fixed
        assert moved <= set(user_side(recommender))
        assert np.abs(recommender.score_all([units[0].items]) - scores).max() > 0
    after = state(recommender)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert set(trainable_parameters(recommender)) == trained
    np.testing.assert_array_equal(recommender.score_all([units[0].items]), scores)


def test_it_is_put_back_even_if_evaluation_fails() -> None:
    config = personal_config(MODELS["bilinear with codes"], steps=1)
    recommender = moved_recommender(config)
    before = state(recommender)
    with (
        pytest.raises(RuntimeError, match="evaluation"),
        personal_tower(recommender, some_units(config, 2), config, seeded_source(1, "personal")),
    ):
        raise RuntimeError("evaluation")
    assert all(torch.equal(p, before[name]) for name, p in state(recommender).items())


def test_a_site_without_training_items_keeps_the_global_tower() -> None:
    config = personal_config(MODELS["bilinear with codes"])
    recommender = moved_recommender(config)
    before = state(recommender)
    with personal_tower(recommender, [], config, seeded_source(1, "personal")):
        assert all(torch.equal(p, before[name]) for name, p in state(recommender).items())

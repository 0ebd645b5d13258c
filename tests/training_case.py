"""A small training on the real BERT that tests run on more than one device."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from client.local_steps import drawn
from common.adapters import trainable_parameters
from common.build_recommender import build_recommender
from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.context import ContextEncoder
from common.holdout import hold_out
from common.privacy_units import Contribution, Unit, UnitBatch, collate, make_units
from common.randomness import seeded_source
from common.recommender import Recommender
from simulations.synthetic import synthetic_dataset

DATASET = synthetic_dataset()
MODELS: dict[str, dict[str, object]] = {
    "bilinear with codes": {"head_items": 20, "head_matrix": "symmetric"},
    "fedit, multi-lag, trained terms": {
        "adapter": "fedit",
        "head": "multi_lag",
        "score_terms": "trained",
    },
    "head alone, per lag": {"item_side": "head", "head_matrix": "per_lag"},
    "history with gradient": {"head_matrix": "symmetric", "history_gradient": True},
}


def small_config(model: dict[str, object], **privacy: object) -> RunConfig:
    """Two LoRA layers, narrow heads, few candidates."""
    small = {"head_dim": 6, "head_items": 0, "head_hidden": 0, "lora_layers": 2, "lora_rank": 2}
    limits = {"targets_per_unit": 4, "negatives_per_unit": 7, "noise_multiplier": 1.0}
    return RunConfig(
        model=ModelConfig(**{**small, **model}),
        privacy=PrivacyConfig(**{"mode": "local", **limits, **privacy}),
        federation=FederationConfig(local_lr=0.05, local_steps=2, lora_lr_scale=0.1),
    )


def moved_recommender(run: RunConfig) -> Recommender:
    """A recommender of its own on the CPU, its adapter moved away from where B is zero."""
    recommender = copy.deepcopy(build_recommender(run, DATASET.catalogue))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trainable_parameters(recommender).values():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    recommender.keep_table_for("moved")
    recommender.set_item_prior(torch.arange(float(len(DATASET.catalogue))).sin())
    return recommender


def some_units(run: RunConfig, count: int) -> list[Unit]:
    """Units of unequal lengths."""
    splits = hold_out(
        DATASET.interactions,
        DATASET.catalogue,
        split="leave_one_out",
        seed=0,
        users=DATASET.users,
    )
    encoder = ContextEncoder.of(run.model)
    units = make_units(splits, max_history=run.model.max_history, encoder=encoder)
    short = [unit for unit in units if len(unit.items) < 8][:2]
    return (short + units)[:count]


def some_contributions(
    recommender: Recommender, units: Sequence[Unit], run: RunConfig
) -> list[Contribution]:
    """One contribution of each unit, the same at every call."""
    source = seeded_source(1, "contributions")
    return [drawn(recommender, unit, run, source) for unit in units]


def some_batch(recommender: Recommender, run: RunConfig, count: int = 4) -> UnitBatch:
    """Collated contributions."""
    contributions = some_contributions(recommender, some_units(run, count), run)
    return collate(contributions, max_history=run.model.max_history)

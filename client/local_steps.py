"""What a local step is made of: the site's optimiser, a unit's drawn contribution, its loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.config import RunConfig
from common.privacy_units import Contribution, Unit, collate, draw_contribution
from common.randomness import RandomSource
from common.recommender import Recommender
from common.step_size import learning_rate, lora_learning_rate


def local_optimizer(
    recommender: Recommender, config: RunConfig, server_round: int
) -> torch.optim.Optimizer:
    """The site's optimiser over the adapter; its state never outlives a round."""
    lr = learning_rate(config, server_round)
    lora: list[torch.nn.Parameter] = []
    other: list[torch.nn.Parameter] = []
    for name, parameter in recommender.named_parameters():
        if parameter.requires_grad:
            (lora if "lora_" in name else other).append(parameter)
    groups = [{"params": other, "lr": lr}] if other else []
    if lora:
        groups.append({"params": lora, "lr": lora_learning_rate(config, server_round)})
    if config.federation.local_optimizer == "adam":
        return torch.optim.AdamW(groups, lr=lr, weight_decay=config.federation.weight_decay)
    return torch.optim.SGD(groups, lr=lr)


def drawn(
    recommender: Recommender, unit: Unit, config: RunConfig, source: RandomSource
) -> Contribution:
    """A fresh bounded contribution of `unit`."""
    return draw_contribution(
        unit,
        catalogue_size=len(recommender.item_prior),
        targets=config.privacy.targets_per_unit,
        negatives=config.privacy.negatives_per_unit,
        lora_rows=config.model.lora_rows if recommender.trains_lora else 0,
        source=source,
    )


def losses(
    recommender: Recommender, batch: Sequence[Contribution], config: RunConfig
) -> torch.Tensor:
    """One loss per contribution, ``[B]``."""
    return recommender.unit_losses(collate(batch, max_history=config.model.max_history))

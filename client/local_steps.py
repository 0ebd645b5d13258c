"""What a local step is made of: the site's optimiser, a unit's drawn contribution, its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from client.randomness import RandomSource
from common.config import RunConfig
from common.privacy_units import Contribution, Unit, collate, draw_contribution
from common.recommender import Recommender


def learning_rate(config: RunConfig, server_round: int) -> float:
    """`federation.local_lr` in round `server_round` (from 1) of the schedule.

    ``cosine`` starts at the full rate and ends just above zero (Loshchilov & Hutter 2017).
    """
    federation = config.federation
    if federation.lr_schedule == "constant":
        return federation.local_lr
    progress = min(server_round - 1, federation.rounds) / federation.rounds
    return federation.local_lr * 0.5 * (1 + math.cos(math.pi * progress))


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
        groups.append({"params": lora, "lr": lr * config.federation.lora_lr_scale})
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

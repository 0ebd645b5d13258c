"""One site's training in one round: sample, step, and the loop is all on this screen."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from client.private_step import PrivateStep
from client.sampling import poisson_sample
from common.adapters import wire_name
from common.config import RunConfig
from common.flat_adapter import Floats
from common.noise_plan import noise_multiplier
from common.privacy_units import Contribution, Unit, collate, draw_contribution
from common.randomness import RandomSource
from common.recommender import Recommender
from common.step_size import learning_rate, lora_learning_rate


def train_private(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    server_round: int,
    expected_units: float,
    sampling: RandomSource,
    noise: RandomSource,
) -> None:
    """Runs `federation.local_steps` private steps on the recommender's adapter, in place.

    Guarantee: each step is a Poisson-sampled Gaussian mechanism on the sum over units of
    their gradients, each clipped to `privacy.max_grad_norm` over all trainable tensors
    jointly; unit: user; relation: add or remove one unit. An empty sample still releases
    noise; a non-finite unit counts as zero.

    Args:
        recommender: Holds the adapter that this round starts from.
        units: The site's units.
        config: The run's configuration.
        server_round: From 1; places the round on the learning-rate schedule.
        expected_units: Public divisor, declared units × sample rate.
        sampling: Source of the Poisson sample and of contributions.
        noise: Source of the Gaussian noise.
    """
    recommender.train()
    with PrivateStep(
        recommender,
        local_optimizer(recommender, config, server_round),
        noise_multiplier=noise_multiplier(config),
        max_grad_norm=config.privacy.max_grad_norm,
        expected_units=expected_units,
        source=noise,
    ) as private_step:
        for _ in range(config.federation.local_steps):
            sampled = poisson_sample(len(units), config.privacy.sample_rate, sampling)
            contributions = [_draw(recommender, units[i], config, sampling) for i in sampled]
            private_step.step(contributions, lambda batch: _losses(recommender, batch, config))
    recommender.eval()


def sampled_unit_sum(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    server_round: int,
    sampling: RandomSource,
) -> dict[str, Floats]:
    """The site's part of a sum over all sites: Σ of its sampled units' clipped updates.

    A unit's update is its negative gradient, clipped to `privacy.max_grad_norm` over all
    trainable tensors jointly; adding or removing one unit moves the sum by at most that in L2
    norm. There is no noise in it yet: it must not leave the site like this, except in mode
    `central`. The recommender's parameters stay as they are.

    Args:
        recommender: Holds the adapter that this round starts from.
        units: The site's units.
        config: The run's configuration.
        server_round: From 1.
        sampling: Source of the Poisson sample and of contributions.

    Returns:
        float64 sums by adapter name.
    """
    recommender.train()
    with PrivateStep(
        recommender,
        local_optimizer(recommender, config, server_round),
        noise_multiplier=0.0,
        max_grad_norm=config.privacy.max_grad_norm,
        expected_units=1.0,
        source=sampling,
    ) as private_step:
        sampled = poisson_sample(len(units), config.privacy.sample_rate, sampling)
        contributions = [_draw(recommender, units[i], config, sampling) for i in sampled]
        sums = private_step.clipped_sum(
            contributions, lambda batch: _losses(recommender, batch, config)
        )
    recommender.eval()
    return {wire_name(name): -total.cpu().numpy() for name, total in sums.items()}


def train_plain(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    server_round: int,
    sampling: RandomSource,
) -> None:
    """Runs `federation.local_steps` ordinary steps (mode `none`): no noise, no guarantee.

    Units are taken in a random order, `federation.units_per_step` at a time, again and
    again until the steps are done.
    """
    recommender.train()
    optimizer = local_optimizer(recommender, config, server_round)
    per_step = min(config.federation.units_per_step, len(units))
    order = sampling.permutation(len(units))
    position = 0
    for _ in range(config.federation.local_steps):
        if position + per_step > len(order):
            order, position = sampling.permutation(len(units)), 0
        chosen = order[position : position + per_step]
        position += per_step
        contributions = [_draw(recommender, units[i], config, sampling) for i in chosen]
        optimizer.zero_grad(set_to_none=True)
        _losses(recommender, contributions, config).mean().backward()
        optimizer.step()
    recommender.eval()


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


def _draw(
    recommender: Recommender, unit: Unit, config: RunConfig, source: RandomSource
) -> Contribution:
    return draw_contribution(
        unit,
        catalogue_size=len(recommender.item_prior),
        targets=config.privacy.targets_per_unit,
        negatives=config.privacy.negatives_per_unit,
        lora_rows=config.model.lora_rows if recommender.trains_lora else 0,
        source=source,
    )


def _losses(
    recommender: Recommender, batch: Sequence[Contribution], config: RunConfig
) -> torch.Tensor:
    return recommender.unit_losses(collate(batch, max_history=config.model.max_history))

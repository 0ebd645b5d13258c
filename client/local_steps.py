"""What local steps are made of: the optimiser, each step's contributions, their losses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from client.sampling import poisson_sample
from common.config import RunConfig
from common.full_softmax import full_softmax_batch
from common.privacy_units import Contribution, Unit, collate, draw_contribution
from common.randomness import RandomSource
from common.recommender import Recommender
from common.step_size import learning_rate, lora_learning_rate
from common.unit_batch import UnitBatch


def local_optimizer(
    recommender: Recommender, config: RunConfig, server_round: int
) -> torch.optim.Optimizer:
    """The site's optimiser over the adapter; its state never outlives a round."""
    named = ((n, p) for n, p in recommender.named_parameters() if p.requires_grad)
    return optimizer_over(named, config, server_round)


def optimizer_over(
    named: Iterable[tuple[str, torch.nn.Parameter]], config: RunConfig, server_round: int
) -> torch.optim.Optimizer:
    """The optimiser of these tensors; LoRA's factors, told by name, have their own step size."""
    lr = learning_rate(config, server_round)
    lora: list[torch.nn.Parameter] = []
    other: list[torch.nn.Parameter] = []
    for name, parameter in named:
        (lora if "lora_" in name else other).append(parameter)
    groups = [{"params": other, "lr": lr}] if other else []
    if lora:
        groups.append({"params": lora, "lr": lora_learning_rate(config, server_round)})
    if config.federation.local_optimizer == "adam":
        return torch.optim.AdamW(groups, lr=lr, weight_decay=config.federation.weight_decay)
    return torch.optim.SGD(groups, lr=lr)


def poisson_steps(
    recommender: Recommender, units: Sequence[Unit], config: RunConfig, sampling: RandomSource
) -> Iterator[list[Contribution]]:
    """Endless private steps: the contributions of a fresh Poisson sample each time."""
    while True:
        sampled = poisson_sample(len(units), config.privacy.sample_rate, sampling)
        yield [drawn(recommender, units[i], config, sampling) for i in sampled]


def shuffled_steps(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    sampling: RandomSource,
    *,
    with_lora: bool = True,
) -> Iterator[list[Contribution]]:
    """Endless plain steps: `federation.units_per_step` units at a time, in random orders."""
    per_step = min(config.federation.units_per_step, len(units))
    order, position = sampling.permutation(len(units)), 0
    while True:
        if position + per_step > len(order):
            order, position = sampling.permutation(len(units)), 0
        chosen = order[position : position + per_step]
        position += per_step
        yield [drawn(recommender, units[i], config, sampling, with_lora=with_lora) for i in chosen]


def drawn(
    recommender: Recommender,
    unit: Unit,
    config: RunConfig,
    source: RandomSource,
    *,
    with_lora: bool = True,
) -> Contribution:
    """A fresh bounded contribution of `unit`; without LoRA no row carries its gradient."""
    return draw_contribution(
        unit,
        catalogue_size=len(recommender.item_prior),
        targets=config.privacy.targets_per_unit,
        negatives=config.privacy.negatives_per_unit,
        lora_rows=_lora_rows(recommender, config) if with_lora else 0,
        source=source,
        shown=config.privacy.shown_per_unit if config.data.shown_negatives else 0,
    )


def plain_steps(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    sampling: RandomSource,
    *,
    with_lora: bool = True,
) -> Iterator[UnitBatch]:
    """The batches of `shuffled_steps`: each unit has its own candidates, or all share all items."""
    for contributions in shuffled_steps(recommender, units, config, sampling, with_lora=with_lora):
        if not config.has_full_softmax:
            yield collate(contributions, max_history=config.model.max_history)
            continue
        yield full_softmax_batch(
            contributions,
            catalogue_size=len(recommender.item_prior),
            max_history=config.model.max_history,
            lora_rows=_lora_rows(recommender, config) if with_lora else 0,
            source=sampling,
        )


def _lora_rows(recommender: Recommender, config: RunConfig) -> int:
    return config.model.lora_rows if recommender.trains_lora else 0


def losses(
    recommender: Recommender, batch: Sequence[Contribution], config: RunConfig
) -> torch.Tensor:
    """One loss per contribution, ``[B]``."""
    return recommender.unit_losses(collate(batch, max_history=config.model.max_history))

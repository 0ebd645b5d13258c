"""Gradients unit by unit over a stack of adapters, summed for each copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch

from client.clipping import clip_factors
from client.local_steps import losses
from common.config import RunConfig
from common.privacy_units import Contribution
from common.recommender import Recommender
from simulations.stacked.adapter_stack import AdapterStack

Tensors: TypeAlias = dict[str, torch.Tensor]
Weigher: TypeAlias = Callable[[Tensors], torch.Tensor]
"""A microbatch's gradients, name → ``[B, *shape]``, → each unit's weight ``[B]`` float32."""


def clipped(config: RunConfig) -> Weigher:
    """Brings every unit within C over all tensors jointly; one that is not finite counts 0.

    The rule and its rounding are those of `client.private_step`.
    """

    def weights(gradients: Tensors) -> torch.Tensor:
        norms = torch.stack(
            [
                torch.linalg.vector_norm(g.flatten(start_dim=1), dim=1, dtype=torch.float64)
                for g in gradients.values()
            ]
        )
        norm = torch.linalg.vector_norm(norms, dim=0)  # [B]; NaN or inf where any entry is
        factor = clip_factors(norm, config.privacy.max_grad_norm, config.privacy.clip_rule).float()
        return torch.where(factor >= torch.finfo(torch.float32).tiny, factor, 0.0)

    return weights


def in_full(gradients: Tensors) -> torch.Tensor:
    """Every unit with weight 1."""
    first = next(iter(gradients.values()))
    return torch.ones(len(first), device=first.device)


def summed_gradients(
    model: Recommender,
    stack: AdapterStack,
    contributions: Sequence[Sequence[Contribution]],
    config: RunConfig,
    *,
    weigh: Weigher,
    microbatch_units: int,
) -> Tensors:
    """``Σᵤ wᵤ gᵤ`` over the units of each copy.

    Args:
        model: from `stacked_recommender`, over `stack`.
        stack: the C copies.
        contributions: for each copy its units of this step; any of them may be empty.
        config: the run's configuration.
        weigh: gives each unit's weight; a unit of weight 0 adds exactly nothing.
        microbatch_units: units in one forward and backward pass; bounds memory only.

    Returns:
        name → float64 ``[C, *shape]``.
    """
    totals = {n: torch.zeros_like(v, dtype=torch.float64) for n, v in stack.values.items()}
    flat = [(copy, unit) for copy, units in enumerate(contributions) for unit in units]
    for start in range(0, len(flat), microbatch_units):
        owners, units = zip(*flat[start : start + microbatch_units], strict=True)
        gradients = _gradients(model, stack, owners, units, config)
        weights = weigh(gradients)
        for name, gradient in gradients.items():
            _add(totals[name], gradient.flatten(1), weights, owners)
    return totals


def _gradients(
    model: Recommender,
    stack: AdapterStack,
    owners: Sequence[int],
    units: Sequence[Contribution],
    config: RunConfig,
) -> Tensors:
    """Name → float32 ``[B, *shape]``, zero where the losses do not depend on a tensor."""
    device = next(iter(stack.values.values())).device
    stack.look(torch.tensor(owners, device=device))
    with torch.enable_grad():
        total = losses(model, units, config).sum()
        names, slots = list(stack.slots), list(stack.slots.values())
        found = torch.autograd.grad(total, slots, allow_unused=True)
    return {
        name: torch.zeros_like(slot) if gradient is None else gradient.float()
        for name, slot, gradient in zip(names, slots, found, strict=True)
    }


def _add(
    total: torch.Tensor, gradients: torch.Tensor, weights: torch.Tensor, owners: Sequence[int]
) -> None:
    """Adds the weighted rows of ``[B, n]`` to their owners' ``[C, *shape]``."""
    unused = weights == 0
    if bool(unused.any()):  # 0 × NaN is NaN
        gradients = gradients.masked_fill(unused[:, None], 0.0)
    for owner, rows in _runs(owners):
        total[owner] += (weights[rows] @ gradients[rows]).view(total.shape[1:])


def _runs(owners: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Each owner with the slice of its units, which stand next to each other."""
    start = 0
    for at in range(1, len(owners) + 1):
        if at == len(owners) or owners[at] != owners[start]:
            yield owners[start], slice(start, at)
            start = at

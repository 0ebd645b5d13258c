"""Gradients unit by unit over a stack of adapters, summed for each copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from client.clipping import clip_factors
from common.config import RunConfig
from common.privacy_units import Contribution, UnitBatch, collate
from common.recommender import Recommender
from simulations.stacked.adapter_stack import AdapterStack
from simulations.stacked.limits import Limits
from simulations.stacked.packed_tower import PackedItemTower

Tensors: TypeAlias = dict[str, torch.Tensor]
Weigher: TypeAlias = Callable[[Tensors], torch.Tensor]
"""A microbatch's gradients, name → ``[B, *shape]``, → each unit's weight ``[B]`` float32."""


def clipped(config: RunConfig) -> Weigher:
    """Brings every unit within C over all tensors jointly; one that is not finite counts 0.

    The rule and its rounding are those of `client.private_step`.
    """

    def weights(gradients: Tensors) -> torch.Tensor:
        squares = [_square_norms(g.flatten(1)) for g in gradients.values()]
        norm = torch.stack(squares).sum(0).sqrt()  # [B]; NaN or inf where any entry is
        factor = clip_factors(norm, config.privacy.max_grad_norm, config.privacy.clip_rule).float()
        return torch.where(factor >= torch.finfo(torch.float32).tiny, factor, 0.0)

    return weights


def _square_norms(gradients: torch.Tensor) -> torch.Tensor:
    """Squared L2 norms of the rows of float32 ``[B, n]``, float64 ``[B]``.

    Short runs are summed in float32, which loses less than 3e-7 of a norm, and the rest in
    float64: no copy of the whole in float64 is made.
    """
    whole = gradients.shape[1] // _RUN * _RUN
    runs = gradients[:, :whole].unflatten(1, (-1, _RUN))
    parts = (torch.linalg.vector_norm(runs, dim=2), gradients[:, whole:])
    return torch.cat(parts, dim=1).double().square().sum(1)


def in_full(gradients: Tensors) -> torch.Tensor:
    """Every unit with weight 1."""
    first = next(iter(gradients.values()))
    return torch.ones(len(first), device=first.device)


_RUN = 64  # numbers


@dataclass(frozen=True)
class _Microbatch:
    """B units and the copies that they look at."""

    owners: tuple[int, ...]
    batch: UnitBatch

    @property
    def units(self) -> torch.Tensor:
        """The owners as int64 ``[B]``."""
        return torch.tensor(self.owners)


class GradientSums:
    """Sums over each copy's units, computed in parts that fit the memory."""

    def __init__(
        self, model: Recommender, stack: AdapterStack, config: RunConfig, limits: Limits
    ) -> None:
        """Computes with `model` (of `stacked_recommender`) over the copies of `stack`."""
        self._model, self._stack = model, stack
        self._config, self._limits = config, limits

    def weighted(self, contributions: Sequence[Sequence[Contribution]], weigh: Weigher) -> Tensors:
        """``Σᵤ wᵤ gᵤ`` over the units of each copy.

        Args:
            contributions: for each copy its units of this step; any of them may be empty.
            weigh: gives each unit's weight; a unit of weight 0 adds exactly nothing.

        Returns:
            name → float64 ``[C, *shape]``.
        """
        values = self._stack.values.items()
        totals = {name: torch.zeros_like(v, dtype=torch.float64) for name, v in values}
        for part in self._parts(self._microbatches(contributions)):
            for microbatch in part:
                gradients = self._gradients(microbatch)
                weights = weigh(gradients)
                for name, gradient in gradients.items():
                    _add(totals[name], gradient.flatten(1), weights, microbatch.owners)
        return totals

    def _microbatches(
        self, contributions: Sequence[Sequence[Contribution]]
    ) -> Iterator[_Microbatch]:
        flat = [(copy, unit) for copy, units in enumerate(contributions) for unit in units]
        for start in range(0, len(flat), self._limits.units):
            owners, units = zip(*flat[start : start + self._limits.units], strict=True)
            yield _Microbatch(owners, collate(units, max_history=self._config.model.max_history))

    def _parts(self, microbatches: Iterator[_Microbatch]) -> Iterator[list[_Microbatch]]:
        """Microbatches whose texts are encoded together, as many as the memory allows."""
        tower = self._tower
        if tower is None:
            yield from ([microbatch] for microbatch in microbatches)
            return
        part: list[_Microbatch] = []
        keys = torch.zeros(0, dtype=torch.long)
        for microbatch in microbatches:
            asked = tower.keys(self._model.live_items(microbatch.batch), microbatch.units)
            together = torch.cat([keys, asked]).unique()
            if part and tower.tokens_of(together) > self._limits.encoded_tokens:
                tower.encode(keys)
                yield part
                part, together = [], asked.unique()
            part.append(microbatch)
            keys = together
        if part:
            tower.encode(keys)
            yield part

    def _gradients(self, microbatch: _Microbatch) -> Tensors:
        """Name → float32 ``[B, *shape]``, zero where the losses do not depend on a tensor."""
        stack = self._stack
        stack.look(microbatch.units)
        with torch.enable_grad():
            total = self._model.unit_losses(microbatch.batch).sum()
            slots = list(stack.slots.values())
            found = torch.autograd.grad(total, slots, allow_unused=True)
        return {
            name: torch.zeros_like(slot) if gradient is None else gradient.float()
            for (name, slot), gradient in zip(stack.slots.items(), found, strict=True)
        }

    @property
    def _tower(self) -> PackedItemTower | None:
        tower: object = self._model.item_tower
        return tower if isinstance(tower, PackedItemTower) else None


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

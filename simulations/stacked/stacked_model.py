"""A recommender whose trainable layers read a stack of adapters instead of their own weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from common.bilinear_head import BilinearHead
from common.recommender import Recommender
from simulations.stacked.adapter_stack import AdapterStack
from simulations.stacked.packed_tower import PackedItemTower
from simulations.stacked.stacked_linear import StackedLinear, StackedSymmetric

Masks = Callable[[torch.Tensor, float], torch.Tensor]
"""(``[B, …]``, p) → what dropout multiplies it by."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def stacked_recommender(
    recommender: Recommender, stack: AdapterStack, dropout_masks: Masks, tokens_per_pass: int
) -> Recommender:
    """A shallow copy of `recommender`, with every trainable layer replaced.

    All else (buffers, frozen weights, item table, the way that losses are computed) is
    shared, and `recommender` stays as it is. The copy serves `unit_losses` alone.

    Args:
        recommender: holds the adapter that the round starts from, and its item table.
        stack: the copies of the adapter.
        dropout_masks: draws the masks of dropout.
        tokens_per_pass: tokens that go backward through BERT at a time.
    """
    surgeon = _Surgeon(stack, dropout_masks)
    stacked = _shallow(recommender)
    stacked.__dict__["table"] = recommender.table  # made at most once, for all copies
    parts = stacked.__dict__["_modules"]
    if recommender.trains_lora:
        parts["item_tower"] = PackedItemTower(recommender.item_tower, stack, tokens_per_pass)
    parts["head"] = surgeon.replaced(recommender.head, "head")
    parts["score"] = surgeon.replaced(recommender.score, "score")
    if recommender.rating is not None:
        parts["rating"] = surgeon.replaced(recommender.rating, "rating")
    return stacked


class _Surgeon:
    def __init__(self, stack: AdapterStack, dropout_masks: Masks) -> None:
        self._stack, self._masks = stack, dropout_masks

    def replaced(self, module: nn.Module, name: str) -> nn.Module:
        """A copy of `module` whose trainable Linears and dropouts are stacked ones."""
        if isinstance(module, nn.Linear) and module.weight.requires_grad:
            return StackedLinear(self._stack, name, has_bias=module.bias is not None)
        if isinstance(module, nn.Dropout):
            return _SiteDropout(module.p, self._masks)
        new = _shallow(module)
        parts = new.__dict__["_modules"]
        for child_name, child in module.named_children():
            parts[child_name] = self.replaced(child, f"{name}.{child_name}")
        if isinstance(new, BilinearHead) and new.two_sided and isinstance(new.mix, StackedLinear):
            parts["mix"], new.two_sided = StackedSymmetric(self._stack, f"{name}.mix"), False
        return new


class _SiteDropout(nn.Module):
    """Dropout whose masks come from each site's own stream."""

    def __init__(self, p: float, masks: Masks) -> None:
        super().__init__()
        self._p, self._masks = p, masks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self._masks(x, self._p) if self._p else x


def _shallow(module: ModuleT) -> ModuleT:
    """A copy with its own dictionaries of children, parameters and buffers."""
    new = copy.copy(module)
    for kind in ("_modules", "_parameters", "_buffers"):
        new.__dict__[kind] = dict(module.__dict__[kind])
    return new

"""The item tower over packed tokens: BERT's top layers with every unit's own LoRA factors.

It computes what `common.item_tower` computes. The frozen weights see all tokens of a
microbatch at once and no padding; only LoRA's narrow products tell units apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from common.adapters import wire_name
from common.item_tower import ItemTower
from simulations.stacked.adapter_stack import AdapterStack
from simulations.stacked.packed_attention import PackedAttention, split
from simulations.stacked.packed_tokens import PackedTokens, Permuted, pack_tokens
from simulations.stacked.unit_projection import UnitProjection


class PackedItemTower(nn.Module):
    """Stands in for the `ItemTower` of a recommender; the stack holds the trained factors."""

    def __init__(self, tower: ItemTower, stack: AdapterStack) -> None:
        """Reads the frozen weights of `tower`, which stays as it is."""
        super().__init__()
        self._prefix, self._stack = tower.prefix, stack
        names = {id(module): f"item_tower.{name}" for name, module in tower.named_modules()}
        self._layers = [_PackedLayer(layer, names, stack) for layer in tower.layers]

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Text vectors ``[N, d]`` of `items` ``[N]``: rows unit-major, equally many per unit."""
        tokens = pack_tokens(self._prefix, items, self._stack.units)
        hidden = self._prefix.states[tokens.prefix_rows]  # [T, d]
        for layer in self._layers:
            hidden = layer(hidden, tokens)
        means = torch.cat([rows.mean(1) for rows in split(hidden, tokens.buckets)])
        vectors: torch.Tensor = Permuted.apply(  # type: ignore[no-untyped-call]
            means, tokens.row_places, tokens.packed_rows
        )
        return vectors


class _PackedLayer:
    """One adapted BERT layer over ``[T, d]``."""

    def __init__(self, layer: Any, names: dict[int, str], stack: AdapterStack) -> None:
        attention = layer.attention.self
        self._heads = int(attention.num_attention_heads)
        adapted = (attention.query, attention.value)
        self._factors = [_Factors(part, names[id(part)], stack) for part in adapted]
        frozen = (attention.query.base_layer, attention.key, attention.value.base_layer)
        self._weight = torch.cat([part.weight.detach() for part in frozen])  # [3d, d]
        self._bias = torch.cat([part.bias.detach() for part in frozen])
        self._mix, self._first_norm = layer.attention.output.dense, layer.attention.output.LayerNorm
        self._up, self._activation = (
            layer.intermediate.dense,
            layer.intermediate.intermediate_act_fn,
        )
        self._down, self._last_norm = layer.output.dense, layer.output.LayerNorm

    def __call__(self, x: torch.Tensor, tokens: PackedTokens) -> torch.Tensor:
        """``[T, d]`` → ``[T, d]``."""
        scalings = tuple(factors.scaling for factors in self._factors)
        tensors = [tensor for factors in self._factors for tensor in factors.tensors()]
        projected = UnitProjection.apply(  # type: ignore[no-untyped-call]
            x, self._weight, self._bias, tokens, scalings, *tensors
        )
        mixed = PackedAttention.apply(  # type: ignore[no-untyped-call]
            projected, tokens.buckets, self._heads
        )
        x = self._first_norm(self._mix(mixed) + x)
        y: torch.Tensor = self._last_norm(self._down(self._activation(self._up(x))) + x)
        return y


class _Factors:
    """Where one adapted projection's factors come from."""

    def __init__(self, layer: Any, name: str, stack: AdapterStack) -> None:
        self._stack = stack
        self._up = wire_name(f"{name}.lora_B.default.weight")
        self._down = wire_name(f"{name}.lora_A.default.weight")
        self._frozen_down: torch.Tensor = layer.lora_A["default"].weight.detach()[None]
        self.scaling = float(layer.scaling["default"])

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Down, up, down's slot or None, up's slot; see `UnitProjection`."""
        stack, up = self._stack, self._up
        if self._down not in stack.values:
            return self._frozen_down, stack.value(up), None, stack.slots[up]
        down = self._down
        return stack.value(down), stack.value(up), stack.slots[down], stack.slots[up]

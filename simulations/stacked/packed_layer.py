"""One adapted BERT layer over packed tokens, forward and backward.

The frozen weights see all tokens at once; only LoRA's narrow products tell groups of rows
apart. The backward pass is written out: it forms the factors' gradients group by group,
``Σ_tokens g hᵀ`` with h = A x, and needs nothing of the tokens but what `Trace` keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from common.adapters import wire_name
from simulations.stacked.adapter_stack import AdapterStack
from simulations.stacked.packed_attention import attended, attended_backward
from simulations.stacked.packed_rows import PackedRows

Tensors = dict[str, torch.Tensor]
_FIELDS = ("x", "lows", "projected", "first", "first_stats", "up", "last", "last_stats")


@dataclass(frozen=True)
class Trace:
    """What a layer's backward pass reads, token by token.

    Attributes:
        x: ``[T, d]``, the layer's input; ``[T, 0]`` where A is frozen.
        lows: ``[T, 2r]``, A x of query and value.
        projected: ``[T, 3d]``, query, key, value.
        first: ``[T, d]``, what the first LayerNorm normalises.
        first_stats: ``[T, 2]`` float32, its mean and inverse deviation.
        up: ``[T, 4d]``, what the activation sees.
        last: ``[T, d]``, what the last LayerNorm normalises.
        last_stats: ``[T, 2]`` float32.
    """

    x: torch.Tensor
    lows: torch.Tensor
    projected: torch.Tensor
    first: torch.Tensor
    first_stats: torch.Tensor
    up: torch.Tensor
    last: torch.Tensor
    last_stats: torch.Tensor

    def at(self, source: torch.Tensor) -> Trace:
        """The trace of the tokens `source`, repeats allowed."""
        return Trace(*(getattr(self, name).index_select(0, source) for name in _FIELDS))


class PackedLayer:
    """The arithmetic of one layer; the stack holds the trained factors."""

    def __init__(self, layer: Any, names: dict[int, str], stack: AdapterStack) -> None:
        """Reads the frozen weights of `layer`; `names` are its modules' by id."""
        attention, output = layer.attention.self, layer.attention.output
        self._heads = int(attention.num_attention_heads)
        adapted = (attention.query, attention.value)
        self._factors = [_Factors(part, names[id(part)], stack) for part in adapted]
        frozen = (attention.query.base_layer, attention.key, attention.value.base_layer)
        self._weight = torch.cat([part.weight.detach() for part in frozen])  # [3d, d]
        self._bias = torch.cat([part.bias.detach() for part in frozen])
        self._mix, self._first_norm = output.dense, _Norm(output.LayerNorm)
        self._up, self._activation = (
            layer.intermediate.dense,
            layer.intermediate.intermediate_act_fn,
        )
        self._down, self._last_norm = layer.output.dense, _Norm(layer.output.LayerNorm)

    def forward(
        self, x: torch.Tensor, rows: PackedRows, owners: torch.Tensor
    ) -> tuple[torch.Tensor, Trace]:
        """``[T, d]`` → ``[T, d]`` and the trace; `owners` ``[G]`` are the groups' copies."""
        projected = F.linear(x, self._weight, self._bias)
        lows = []
        for part, factors in zip(_ends(projected), self._factors, strict=True):
            lows.append(_applied(x, factors.down(owners), rows))  # [T, r]
            part += factors.scaling * _applied(lows[-1], factors.up(owners), rows)
        first = self._mix(attended(projected, rows, self._heads)) + x
        middle, first_stats = self._first_norm.forward(first)
        up = self._up(middle)
        last = self._down(self._activation(up)) + middle
        y, last_stats = self._last_norm.forward(last)
        kept = x if self._trains_down else x[:, :0]
        lows_of_both = torch.cat(lows, 1)
        return y, Trace(kept, lows_of_both, projected, first, first_stats, up, last, last_stats)

    def backward(
        self,
        gradient: torch.Tensor,
        trace: Trace,
        rows: PackedRows,
        owners: torch.Tensor,
        *,
        needs_input: bool,
    ) -> tuple[torch.Tensor | None, Tensors]:
        """From the gradient of the output ``[T, d]`` to that of the input and of the factors.

        Args:
            gradient: by the output.
            trace: of these very tokens.
            rows: their layout; the groups are the units.
            owners: ``[G]``, the copy that each unit looks at.
            needs_input: whether anything trained lies below.

        Returns:
            ``[T, d]`` or None, and float32 ``[G, *shape]`` by the factors' names.
        """
        of_last = self._last_norm.backward(gradient, trace.last, trace.last_stats)
        of_up = _activation_backward(
            self._activation, trace.up, of_last @ self._down.weight.detach()
        )
        of_middle = (of_up @ self._up.weight.detach()).add_(of_last)
        of_first = self._first_norm.backward(of_middle, trace.first, trace.first_stats)
        of_mixed = of_first @ self._mix.weight.detach()
        of_projected = attended_backward(of_mixed, trace.projected, rows, self._heads)
        of_x = (of_projected @ self._weight).add_(of_first) if needs_input else None
        gradients: Tensors = {}
        lows = trace.lows.chunk(2, dim=1)
        for part, low, factors in zip(_ends(of_projected), lows, self._factors, strict=True):
            gradients |= factors.gradients(part, low, trace.x, rows, owners, of_x)
        return of_x, gradients

    @property
    def _trains_down(self) -> bool:
        return any(factors.trains_down for factors in self._factors)


class _Factors:
    """LoRA's A (down) and B (up) of one projection."""

    def __init__(self, layer: Any, name: str, stack: AdapterStack) -> None:
        self._stack = stack
        self._up = wire_name(f"{name}.lora_B.default.weight")
        self._down = wire_name(f"{name}.lora_A.default.weight")
        self._frozen_down: torch.Tensor = layer.lora_A["default"].weight.detach()[None]
        self.trains_down = self._down in stack.values
        self.scaling = float(layer.scaling["default"])

    def down(self, owners: torch.Tensor) -> torch.Tensor:
        """A, ``[1|G, r, d]``."""
        return self._stack.value(self._down, owners) if self.trains_down else self._frozen_down

    def up(self, owners: torch.Tensor) -> torch.Tensor:
        """B, ``[1|G, p, r]``."""
        return self._stack.value(self._up, owners)

    def gradients(
        self,
        gradient: torch.Tensor,
        low: torch.Tensor,
        x: torch.Tensor,
        rows: PackedRows,
        owners: torch.Tensor,
        of_x: torch.Tensor | None,
    ) -> Tensors:
        """Gradients per group from that of the projection ``[T, p]``; adds to `of_x`."""
        scaled = self.scaling * gradient.float()
        of_up = torch.bmm(rows.by_group(scaled).transpose(1, 2), rows.by_group(low.float()))
        found = {self._up: of_up}
        if of_x is not None or self.trains_down:
            of_low = _applied(scaled.to(low.dtype), self.up(owners).transpose(1, 2), rows)
            if self.trains_down:
                by_group = rows.by_group(of_low.float()).transpose(1, 2)
                found[self._down] = torch.bmm(by_group, rows.by_group(x.float()))
            if of_x is not None:
                of_x += _applied(of_low, self.down(owners).transpose(1, 2), rows)
        return found


class _Norm:
    """A LayerNorm with frozen weights."""

    def __init__(self, norm: torch.nn.LayerNorm) -> None:
        self._shape, self._eps = list(norm.normalized_shape), norm.eps
        self._weight, self._bias = norm.weight.detach(), norm.bias.detach()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, mean, inverse = torch.native_layer_norm(
            x, self._shape, self._weight, self._bias, self._eps
        )
        return y, torch.cat([mean, inverse], dim=1)

    def backward(self, g: torch.Tensor, x: torch.Tensor, stats: torch.Tensor) -> torch.Tensor:
        mean, inverse = (column.contiguous() for column in stats.chunk(2, dim=1))
        found: tuple[torch.Tensor, ...] = torch.ops.aten.native_layer_norm_backward(
            g, x, self._shape, mean, inverse, self._weight, self._bias, [True, False, False]
        )
        return found[0]


def _ends(projected: torch.Tensor) -> Iterator[torch.Tensor]:
    """The query's and the value's columns of ``[T, 3p]``, as views."""
    query, _, value = projected.chunk(3, dim=1)
    return iter((query, value))


def _applied(x: torch.Tensor, weight: torch.Tensor, rows: PackedRows) -> torch.Tensor:
    """``x Wᵀ`` of every token, ``[T, p]``, with its group's `weight` out of ``[1|G, p, d]``."""
    weight = weight.to(x.dtype)
    if len(weight) == 1:
        return F.linear(x, weight[0])
    return rows.by_token(torch.bmm(rows.by_group(x), weight.transpose(1, 2)))


def _activation_backward(activation: Any, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient of ``activation(x)`` by x, for any elementwise activation."""
    if getattr(activation, "act", None) is F.gelu:  # BERT's own, without a forward pass
        found: torch.Tensor = torch.ops.aten.gelu_backward(gradient, x)
        return found
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(activation(x), x, gradient)
    return found

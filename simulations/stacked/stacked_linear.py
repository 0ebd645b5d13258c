"""Linear layers whose weights differ from unit to unit, with gradients formed per unit."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from simulations.stacked.adapter_stack import AdapterStack


class UnitLinear(torch.autograd.Function):
    """``y = x Wᵤᵀ + bᵤ``, with the gradients of W and b unit by unit."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        weight_slot: torch.Tensor,
        bias_slot: torch.Tensor | None,
    ) -> torch.Tensor:
        """Applies each unit's weight to its rows.

        Args:
            ctx: autograd's.
            x: ``[B, R, d]``.
            weight: ``[1|B, p, d]``.
            bias: ``[1|B, p]`` or None.
            weight_slot: ``[B, p, d]``, takes the gradient of the weight.
            bias_slot: ``[B, p]`` or None, takes that of the bias.
        """
        ctx.save_for_backward(x, weight)
        y = torch.matmul(x, weight.transpose(1, 2))
        return y if bias is None else y + bias[:, None, :]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradient of x, and into the slots those of the units."""
        x, weight = ctx.saved_tensors
        (g,) = gradients
        of_x = torch.matmul(g, weight) if ctx.needs_input_grad[0] else None
        of_weight = torch.bmm(g.transpose(1, 2), x)
        of_bias = g.sum(1) if ctx.needs_input_grad[4] else None
        return of_x, None, None, of_weight, of_bias


class SymmetricUnitLinear(torch.autograd.Function):
    """``y = x (Wᵤ + Wᵤᵀ)``, with the (symmetric) gradient of W unit by unit."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, slot: torch.Tensor
    ) -> torch.Tensor:
        """As `UnitLinear`, of square weights ``[1|B, d, d]``."""
        both = weight + weight.transpose(1, 2)
        ctx.save_for_backward(x, both)
        return torch.matmul(x, both)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradient of x, and into the slot those of the units."""
        x, both = ctx.saved_tensors
        (g,) = gradients
        of_x = torch.matmul(g, both) if ctx.needs_input_grad[0] else None
        one_sided = torch.bmm(g.transpose(1, 2), x)
        return of_x, None, one_sided + one_sided.transpose(1, 2)


class StackedLinear(nn.Module):
    """Stands in for a trainable ``nn.Linear`` of a recommender."""

    def __init__(self, stack: AdapterStack, name: str, *, has_bias: bool) -> None:
        """Reads ``name.weight`` (and ``name.bias``) from `stack`."""
        super().__init__()
        self._stack, self._weight, self._bias = stack, f"{name}.weight", f"{name}.bias"
        self._has_bias = has_bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, …, d]`` → ``[B, …, p]``; the first axis is the microbatch's units."""
        stack = self._stack
        y: torch.Tensor = UnitLinear.apply(  # type: ignore[no-untyped-call]
            x.reshape(x.shape[0], -1, x.shape[-1]),
            stack.value(self._weight),
            stack.value(self._bias) if self._has_bias else None,
            stack.slots[self._weight],
            stack.slots[self._bias] if self._has_bias else None,
        )
        return y.view(*x.shape[:-1], y.shape[-1])


class StackedSymmetric(nn.Module):
    """Stands in for the matrix W of a symmetric head and gives ``x (W + Wᵀ)`` at once."""

    def __init__(self, stack: AdapterStack, name: str) -> None:
        """Reads ``name.weight`` from `stack`."""
        super().__init__()
        self._stack, self._weight = stack, f"{name}.weight"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, m, d]`` → ``[B, m, d]``."""
        stack = self._stack
        y: torch.Tensor = SymmetricUnitLinear.apply(  # type: ignore[no-untyped-call]
            x, stack.value(self._weight), stack.slots[self._weight]
        )
        return y

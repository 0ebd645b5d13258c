"""LoRA on query and value over packed tokens, with the factors' gradients unit by unit."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from simulations.stacked.packed_tokens import PackedTokens


class UnitProjection(torch.autograd.Function):
    """Query, key and value in one product, plus ``s·B(A x)`` on query and value.

    The frozen product runs over all tokens at once. In the backward pass a unit's gradients
    are ``Σ_tokens g hᵀ`` with h = A x, and nothing else of the tokens is kept for them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        tokens: PackedTokens,
        scalings: tuple[float, float],
        *factors: torch.Tensor | None,
    ) -> torch.Tensor:
        """Projects the tokens.

        Args:
            ctx: autograd's.
            x: ``[T, d]``.
            weight: ``[3p, d]``, frozen.
            bias: ``[3p]``, frozen.
            tokens: the layout.
            scalings: s of query and of value.
            factors: of query and then of value: A ``[1|B, r, d]``, B ``[1|B, p, r]``, and the
                slots ``[B, r, d]`` (None where A is frozen) and ``[B, p, r]`` that take the
                gradients; a first axis of 1 means that all units share it.

        Returns:
            ``[T, 3p]``: query, key, value.
        """
        projected = F.linear(x, weight, bias)
        lows = []
        for part, (down, up, _, _), s in zip(
            _ends(projected), _pairs(factors), scalings, strict=True
        ):
            low = _applied(x, down, tokens)  # [T, r]
            part += s * _applied(low, up, tokens)
            lows.append(low)
        (query_down, query_up, *_), (value_down, value_up, *_) = _pairs(factors)
        ctx.save_for_backward(x, weight, *lows, query_down, query_up, value_down, value_up)
        ctx.tokens, ctx.scalings = tokens, scalings
        return projected

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradient of x, and into the slots those of the units."""
        (g,) = gradients
        x, weight, query_low, value_low, *factors = ctx.saved_tensors
        tokens: PackedTokens = ctx.tokens
        of_x = g @ weight if ctx.needs_input_grad[0] else None
        slots: list[torch.Tensor | None] = []
        parts = zip(
            _ends(g),
            (query_low, value_low),
            (factors[:2], factors[2:]),
            ctx.scalings,
            (5, 9),
            strict=True,
        )
        for part, low, (down, up), s, at in parts:
            padded = _by_unit(part, tokens)  # [B, t, p]
            of_up = s * torch.bmm(padded.transpose(1, 2), _by_unit(low, tokens))
            of_down = None
            trains_down = ctx.needs_input_grad[at + 2]
            if of_x is not None or trains_down:
                of_low = s * _applied(part, up.transpose(1, 2), tokens)  # [T, r]
                if trains_down:
                    of_down = torch.bmm(
                        _by_unit(of_low, tokens).transpose(1, 2), _by_unit(x, tokens)
                    )
                if of_x is not None:
                    of_x += _applied(of_low, down.transpose(1, 2), tokens)
            slots += [None, None, of_down, of_up]
        return of_x, None, None, None, None, *slots


def _ends(projected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The query's and the value's columns of ``[T, 3p]``, as views."""
    width = projected.shape[1] // 3
    return projected[:, :width], projected[:, 2 * width :]


def _pairs(factors: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    return factors[:4], factors[4:]


def _applied(x: torch.Tensor, weight: torch.Tensor, tokens: PackedTokens) -> torch.Tensor:
    """``x Wᵤᵀ`` of every token, ``[T, p]``, with `weight` ``[1|B, p, d]``."""
    weight = weight.to(x.dtype)
    if len(weight) == 1:
        return F.linear(x, weight[0])
    padded = torch.bmm(_by_unit(x, tokens, x.dtype), weight.transpose(1, 2))  # [B, t, p]
    return padded.flatten(0, 1).index_select(0, tokens.token_places)


def _by_unit(
    x: torch.Tensor, tokens: PackedTokens, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """``[B, t, d]`` of ``[T, d]``; where a unit has no token there is zero, whatever x holds."""
    units, width = tokens.unit_tokens.shape
    filled = torch.cat([x.to(dtype), x.new_zeros((1, x.shape[1]), dtype=dtype)])
    return filled.index_select(0, tokens.unit_tokens.flatten()).view(units, width, -1)

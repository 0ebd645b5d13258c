"""Self-attention over packed rows: each length by itself, so that nothing is masked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from simulations.stacked.packed_tokens import Bucket


class PackedAttention(torch.autograd.Function):
    """Softmax attention within each row of packed tokens."""

    @staticmethod
    def forward(
        ctx: Any, projected: torch.Tensor, buckets: Sequence[Bucket], heads: int
    ) -> torch.Tensor:
        """Attends.

        Args:
            ctx: autograd's.
            projected: ``[T, 3d]``: query, key, value of every token.
            buckets: the rows' lengths.
            heads: number of attention heads.

        Returns:
            ``[T, d]``.
        """
        mixed = projected.new_empty(len(projected), projected.shape[1] // 3)
        saved = []
        for rows, out in zip(split(projected, buckets), split(mixed, buckets), strict=True):
            query, key, value = _by_head(rows, heads)  # each [n, h, L, d/h]
            scores = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(query.shape[-1])
            shares = torch.softmax(scores, -1)
            out.copy_(torch.matmul(shares, value).transpose(1, 2).flatten(2))
            saved.append(shares)
        ctx.save_for_backward(projected, *saved)
        ctx.buckets, ctx.heads = buckets, heads
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient of the projections."""
        projected, *saved = ctx.saved_tensors
        of_projected = torch.empty_like(projected)
        parts = zip(
            split(projected, ctx.buckets),
            split(gradients[0], ctx.buckets),
            split(of_projected, ctx.buckets),
            saved,
            strict=True,
        )
        for rows, of_mixed, out, shares in parts:
            query, key, value = _by_head(rows, ctx.heads)
            of_query, of_key, of_value = _by_head(out, ctx.heads)
            g = of_mixed.unflatten(2, (ctx.heads, -1)).transpose(1, 2)  # [n, h, L, d/h]
            of_value.copy_(torch.matmul(shares.transpose(2, 3), g))
            of_shares = torch.matmul(g, value.transpose(2, 3))
            of_scores = shares * (of_shares - (of_shares * shares).sum(-1, keepdim=True))
            of_scores /= math.sqrt(query.shape[-1])
            of_query.copy_(torch.matmul(of_scores, key))
            of_key.copy_(torch.matmul(of_scores.transpose(2, 3), query))
        return of_projected, None, None


def split(x: torch.Tensor, buckets: Sequence[Bucket]) -> Iterator[torch.Tensor]:
    """Views ``[rows, length, d]`` of ``[T, d]``, one per bucket."""
    at = 0
    for rows, length in buckets:
        yield x[at : at + rows * length].view(rows, length, -1)
        at += rows * length


def _by_head(rows: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value ``[n, h, L, d/h]`` as views of ``[n, L, 3d]``."""
    parts = rows.unflatten(2, (3, heads, -1))  # [n, L, 3, h, d/h]
    query, key, value = (parts[:, :, which].transpose(1, 2) for which in range(3))
    return query, key, value

"""Self-attention over packed rows: each length by itself, so that nothing is masked."""

from __future__ import annotations

import math

import torch

from simulations.stacked.packed_rows import PackedRows


def attended(projected: torch.Tensor, rows: PackedRows, heads: int) -> torch.Tensor:
    """Softmax attention within each row.

    Args:
        projected: ``[T, 3d]``: query, key and value of every token.
        rows: the layout.
        heads: number of attention heads.

    Returns:
        ``[T, d]``.
    """
    mixed = projected.new_empty(len(projected), projected.shape[1] // 3)
    for part, out in zip(rows.split(projected), rows.split(mixed), strict=True):
        query, key, value = _by_head(part, heads)  # each [n, h, L, d/h]
        out.copy_(torch.matmul(_shares(query, key), value).transpose(1, 2).flatten(2))
    return mixed


def attended_backward(
    gradient: torch.Tensor, projected: torch.Tensor, rows: PackedRows, heads: int
) -> torch.Tensor:
    """The gradient of `attended` by `projected`, ``[T, 3d]``, from that by its result."""
    of_projected = torch.empty_like(projected)
    parts = zip(rows.split(projected), rows.split(gradient), rows.split(of_projected), strict=True)
    for part, of_mixed, out in parts:
        query, key, value = _by_head(part, heads)
        of_query, of_key, of_value = _by_head(out, heads)
        shares = _shares(query, key)  # cheaper to make again than to keep
        g = of_mixed.unflatten(2, (heads, -1)).transpose(1, 2)  # [n, h, L, d/h]
        of_value.copy_(torch.matmul(shares.transpose(2, 3), g))
        of_shares = torch.matmul(g, value.transpose(2, 3))
        of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
        of_scores /= math.sqrt(query.shape[-1])
        of_query.copy_(torch.matmul(of_scores, key))
        of_key.copy_(torch.matmul(of_scores.transpose(2, 3), query))
    return of_projected


def _shares(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    scores = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(query.shape[-1])
    return torch.softmax(scores, -1)


def _by_head(rows: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value ``[n, h, L, d/h]`` as views of ``[n, L, 3d]``."""
    parts = rows.unflatten(2, (3, heads, -1))  # [n, L, 3, h, d/h]
    query, key, value = (parts[:, :, which].transpose(1, 2) for which in range(3))
    return query, key, value

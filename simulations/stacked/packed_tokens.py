"""Where the tokens of many rows lie when no place is spent on padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from common.frozen_prefix import FrozenPrefix


class Bucket(NamedTuple):
    """Rows of one length, next to each other in the packed order."""

    rows: int
    length: int


@dataclass(frozen=True)
class PackedTokens:
    """The tokens of N rows of B units, rows of equal length next to each other.

    Attributes:
        prefix_rows: ``[T]`` int64, each token's place in the frozen prefix.
        buckets: rows by length, shortest first; their rows × length add up to T.
        row_places: ``[N]`` int64, place of each row in the packed order of rows.
        packed_rows: ``[N]`` int64, its inverse.
        unit_tokens: ``[B, t]`` int64, tokens of each unit; T where a unit has fewer than t.
        token_places: ``[T]`` int64, place of each token in the flattened ``[B·t]``.
    """

    prefix_rows: torch.Tensor
    buckets: tuple[Bucket, ...]
    row_places: torch.Tensor
    packed_rows: torch.Tensor
    unit_tokens: torch.Tensor
    token_places: torch.Tensor


def pack_tokens(prefix: FrozenPrefix, items: torch.Tensor, units: int) -> PackedTokens:
    """Lays out the texts of `items`.

    Args:
        prefix: tells how long each text is.
        items: ``[B·R]`` int64 catalogue indices, unit-major.
        units: B.

    Returns:
        The layout, on the device of `items`.
    """
    device = items.device
    items = items.cpu()
    starts, lengths = prefix.offsets.cpu()[items], prefix.lengths.cpu()[items]
    packed_rows = torch.argsort(lengths, stable=True)
    row_places = torch.empty_like(packed_rows)
    row_places[packed_rows] = torch.arange(len(items))
    sizes = lengths[packed_rows]  # tokens of each row, in packed order
    ends = torch.cumsum(sizes, 0)
    tokens = int(ends[-1])
    row_of_token = torch.repeat_interleave(torch.arange(len(items)), sizes)
    place_in_row = torch.arange(tokens) - (ends - sizes)[row_of_token]
    unit_of_token = packed_rows[row_of_token] // (len(items) // units)
    unit_tokens, token_places = _by_unit(unit_of_token, units)
    found, counts = torch.unique_consecutive(sizes, return_counts=True)
    return PackedTokens(
        prefix_rows=(starts[packed_rows][row_of_token] + place_in_row).to(device),
        buckets=tuple(Bucket(n, w) for n, w in zip(counts.tolist(), found.tolist(), strict=True)),
        row_places=row_places.to(device),
        packed_rows=packed_rows.to(device),
        unit_tokens=unit_tokens.to(device),
        token_places=token_places.to(device),
    )


def _by_unit(unit_of_token: torch.Tensor, units: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of each unit ``[B, t]``, filled up with T, and each token's place there."""
    tokens = len(unit_of_token)
    order = torch.argsort(unit_of_token, stable=True)
    counts = torch.bincount(unit_of_token, minlength=units)
    width = int(counts.max())
    place = torch.empty_like(order)
    place[order] = torch.arange(tokens) - (torch.cumsum(counts, 0) - counts)[unit_of_token[order]]
    places = unit_of_token * width + place
    unit_tokens = torch.full((units * width,), tokens)
    unit_tokens[places] = torch.arange(tokens)
    return unit_tokens.view(units, width), places


class Permuted(torch.autograd.Function):
    """``x[order]`` for a permutation: the gradient is a gather too, not a scatter."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, order: torch.Tensor, inverse: torch.Tensor
    ) -> torch.Tensor:
        """Rows of `x` ``[N, …]`` in the order given; `inverse` undoes it."""
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient in the order of `x`."""
        (inverse,) = ctx.saved_tensors
        return gradients[0].index_select(0, inverse), None, None

"""Where the tokens of many texts lie when no place is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Bucket(NamedTuple):
    """Rows of one length, next to each other in the packed order."""

    rows: int
    length: int


@dataclass(frozen=True)
class PackedRows:
    """T tokens of N rows (texts), rows of equal length side by side; each row has a group.

    Attributes:
        source: ``[T]`` int64, where each token is read from.
        row_of_token: ``[T]`` int64, each token's row, as the rows were given.
        buckets: rows by length, shortest first; their rows × length add up to T.
        row_places: ``[N]`` int64, place of each given row in the packed order of rows.
        row_starts: ``[N]`` int64, place of each given row's first token.
        group_tokens: ``[G, t]`` int64, tokens of each group; T where it has fewer than t.
        token_places: ``[T]`` int64, place of each token in the flattened ``[G·t]``.
    """

    source: torch.Tensor
    row_of_token: torch.Tensor
    buckets: tuple[Bucket, ...]
    row_places: torch.Tensor
    row_starts: torch.Tensor
    group_tokens: torch.Tensor
    token_places: torch.Tensor

    def split(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Views ``[rows, length, d]`` of ``[T, d]``, one per bucket."""
        at = 0
        for rows, length in self.buckets:
            yield x[at : at + rows * length].view(rows, length, -1)
            at += rows * length

    def row_means(self, x: torch.Tensor) -> torch.Tensor:
        """float32 ``[N, d]``: the mean of each row's tokens of ``[T, d]``, in the given order."""
        means = torch.cat([rows.float().mean(1) for rows in self.split(x)])
        return means.index_select(0, self.row_places)

    def by_group(self, x: torch.Tensor) -> torch.Tensor:
        """``[G, t, d]`` of ``[T, d]``; zero where a group has no token, whatever x holds."""
        filled = torch.cat([x, x.new_zeros(1, x.shape[1])])
        return filled.index_select(0, self.group_tokens.flatten()).view(
            *self.group_tokens.shape, -1
        )

    def by_token(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of `by_group`: ``[T, d]`` of ``[G, t, d]``."""
        return x.flatten(0, 1).index_select(0, self.token_places)


def pack_rows(
    starts: torch.Tensor,
    lengths: torch.Tensor,
    groups: torch.Tensor,
    count: int,
    device: torch.device,
) -> PackedRows:
    """Lays out rows.

    Args:
        starts: ``[N]`` int64 on the CPU; row i is read from the places from ``starts[i]`` on.
        lengths: ``[N]`` int64 on the CPU, tokens of each row, at least 1.
        groups: ``[N]`` int64 on the CPU, each row's group.
        count: G, the number of groups; there may be some without rows.
        device: where the layout shall be.
    """
    order = torch.argsort(lengths, stable=True)
    sizes = lengths[order]
    ends = torch.cumsum(sizes, 0)
    rows = torch.repeat_interleave(torch.arange(len(order)), sizes)  # [T], packed row
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    row_of_token = order[rows]
    within = torch.arange(len(rows)) - (ends - sizes)[rows]
    group_tokens, token_places = _by_group(groups[row_of_token], count)
    found, counts = torch.unique_consecutive(sizes, return_counts=True)
    return PackedRows(
        source=(starts[row_of_token] + within).to(device),
        row_of_token=row_of_token.to(device),
        buckets=tuple(Bucket(n, w) for n, w in zip(counts.tolist(), found.tolist(), strict=True)),
        row_places=places.to(device),
        row_starts=(ends - sizes)[places],
        group_tokens=group_tokens.to(device),
        token_places=token_places.to(device),
    )


def _by_group(groups: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of each group ``[G, t]``, filled up with T, and each token's place there."""
    tokens = len(groups)
    order = torch.argsort(groups, stable=True)
    sizes = torch.bincount(groups, minlength=count)
    width = int(sizes.max())
    place = torch.empty_like(order)
    place[order] = torch.arange(tokens) - (torch.cumsum(sizes, 0) - sizes)[groups[order]]
    places = groups * width + place
    group_tokens = torch.full((count * width,), tokens)
    group_tokens[places] = torch.arange(tokens)
    return group_tokens.view(count, width), places

"""The item tower over packed tokens: every distinct text once, every unit's gradient apart.

It computes what `common.item_tower` computes. A text that several units show is encoded
once per copy of the adapter, which shares values, not gradients: the backward pass runs
over each unit's own rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from common.frozen_prefix import FrozenPrefix
from common.item_tower import ItemTower
from simulations.stacked.adapter_stack import AdapterStack
from simulations.stacked.packed_layer import PackedLayer, Tensors, Trace
from simulations.stacked.packed_rows import pack_rows


@dataclass(frozen=True)
class EncodedTexts:
    """Distinct texts under the copies that look at them.

    Attributes:
        keys: ``[J]`` int64 on the CPU, ascending: copy × texts + text.
        vectors: float32 ``[J, d]``.
        starts: ``[J]`` int64 on the CPU, each one's first token in the traces.
        lengths: ``[J]`` int64 on the CPU.
        traces: of each layer, lowest first.
    """

    keys: torch.Tensor
    vectors: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    traces: tuple[Trace, ...]


class PackedItemTower(nn.Module):
    """Stands in for the `ItemTower` of a recommender; the stack holds the trained factors."""

    def __init__(self, tower: ItemTower, stack: AdapterStack, tokens_per_pass: int) -> None:
        """Reads the frozen weights of `tower`, which stays as it is.

        Args:
            tower: the item tower.
            stack: the copies of the adapter.
            tokens_per_pass: tokens that go backward at a time; bounds memory only.
        """
        super().__init__()
        names = {id(module): f"item_tower.{name}" for name, module in tower.named_modules()}
        self._layers = [PackedLayer(layer, names, stack) for layer in tower.layers]
        self._prefix: FrozenPrefix = tower.prefix
        self._stack, self._tokens_per_pass = stack, tokens_per_pass
        self._encoded: EncodedTexts | None = None

    def keys(self, items: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
        """Which copy's encoding of which text: copy × texts + text.

        Args:
            items: ``[U, R]`` int64 on the CPU.
            owners: ``[U]`` int64 on the CPU, the copy that each unit looks at.

        Returns:
            ``[U·R]`` int64.
        """
        copies = torch.zeros_like(owners) if self._stack.is_alike else owners
        return (copies[:, None] * len(self._prefix.lengths) + items).flatten()

    def tokens_of(self, keys: torch.Tensor) -> int:
        """Tokens of the texts behind `keys`."""
        return int(self._prefix.lengths[keys % len(self._prefix.lengths)].sum())

    @torch.no_grad()
    def encode(self, keys: torch.Tensor) -> None:
        """Encodes the texts that the coming microbatches ask for: ascending, distinct `keys`."""
        self._encoded = None  # never two of them in memory
        texts_of_all = len(self._prefix.lengths)
        copies, texts = keys // texts_of_all, keys % texts_of_all
        groups, group_of_row = torch.unique(copies, return_inverse=True)
        starts, lengths = self._prefix.offsets[texts], self._prefix.lengths[texts]
        device = self._stack.device
        rows = pack_rows(starts, lengths, group_of_row, len(groups), device)
        hidden = self._prefix.states[rows.source.to(self._prefix.states.device)].to(device)
        traces = []
        for layer in self._layers:
            hidden, trace = layer.forward(hidden, rows, groups)
            traces.append(trace)
        vectors = rows.row_means(hidden)
        self._encoded = EncodedTexts(keys, vectors, rows.row_starts, lengths, tuple(traces))

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Text vectors ``[N, d]`` of encoded `items` ``[N]``, for the stack's microbatch.

        The rows are unit-major, equally many per unit; `items` is on the CPU.
        """
        if self._encoded is None:
            raise RuntimeError("encode the texts of a step before its losses")
        stack = self._stack
        keys = self.keys(items.view(stack.units, -1), stack.owners)
        places = torch.searchsorted(self._encoded.keys, keys)
        names = [name for name in stack.slots if name.startswith("lora.")]
        slots = [stack.slots[name] for name in names]
        vectors: torch.Tensor = _Encoded.apply(  # type: ignore[no-untyped-call]
            self, self._encoded, places, names, *slots
        )
        return vectors

    def unit_gradients(
        self, encoded: EncodedTexts, places: torch.Tensor, gradients: torch.Tensor
    ) -> Tensors:
        """From the gradients of a microbatch's vectors to those of each unit's factors.

        Args:
            encoded: the texts.
            places: ``[B·R]`` int64 on the CPU, where each row stands in `encoded`.
            gradients: ``[B·R, d]`` by the rows' vectors.

        Returns:
            float32 ``[B, *shape]`` by the factors' names, zero for a unit that gets none.
        """
        owners, rows_per_unit = self._stack.owners, len(places) // self._stack.units
        live = (gradients != 0).any(1).cpu().nonzero().flatten()  # the others add nothing
        units = live // rows_per_unit
        total: Tensors = {}
        for chosen in self._passes(units, encoded.lengths[places[live]]):
            first, last = int(units[chosen[0]]), int(units[chosen[-1]]) + 1
            found = self._backward(
                encoded,
                places[live[chosen]],
                gradients[live[chosen].to(gradients.device)],
                units[chosen] - first,
                owners[first:last],
            )
            for name, part in found.items():
                if name not in total:
                    shape = (self._stack.units, *part.shape[1:])
                    total[name] = torch.zeros(shape, device=part.device)
                total[name][first:last] = part
        return total

    def _backward(
        self,
        encoded: EncodedTexts,
        places: torch.Tensor,
        gradients: torch.Tensor,
        units: torch.Tensor,
        owners: torch.Tensor,
    ) -> Tensors:
        lengths, device = encoded.lengths[places], gradients.device
        rows = pack_rows(encoded.starts[places], lengths, units, len(owners), device)
        shares = gradients / lengths.to(device)[:, None]
        dtype = encoded.traces[0].projected.dtype
        of_hidden: torch.Tensor | None = shares.index_select(0, rows.row_of_token).to(dtype)
        found: Tensors = {}
        for at in reversed(range(len(self._layers))):
            if of_hidden is None:
                raise RuntimeError("a layer above the lowest must hand a gradient down")
            trace = encoded.traces[at].at(rows.source)
            of_hidden, own = self._layers[at].backward(
                of_hidden, trace, rows, owners, needs_input=at > 0
            )
            found |= own
        return found

    def _passes(self, units: torch.Tensor, lengths: torch.Tensor) -> Iterator[torch.Tensor]:
        """Places of the rows of one pass after the other; a unit's rows stay together."""
        if len(units) == 0:
            return
        of_unit = torch.bincount(units, weights=lengths.double())
        before = torch.cumsum(of_unit, 0) - of_unit
        passes = (before // self._tokens_per_pass)[units]
        for number in torch.unique_consecutive(passes):
            yield (passes == number).nonzero().flatten()


class _Encoded(torch.autograd.Function):
    """Encoded rows, whose gradient goes into the slots of the units they belong to."""

    @staticmethod
    def forward(
        ctx: Any,
        tower: PackedItemTower,
        encoded: EncodedTexts,
        places: torch.Tensor,
        names: list[str],
        *slots: torch.Tensor,
    ) -> torch.Tensor:
        ctx.tower, ctx.encoded, ctx.places, ctx.names = tower, encoded, places, names
        return encoded.vectors.index_select(0, places.to(encoded.vectors.device))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        found = ctx.tower.unit_gradients(ctx.encoded, ctx.places, gradients[0])
        return None, None, None, None, *(found.get(name) for name in ctx.names)

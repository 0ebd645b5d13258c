"""Dropout masks drawn from each copy's own stream, whatever the batching."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.randomness import RandomSource
from simulations.stacked.adapter_stack import AdapterStack


class DropoutMasks:
    """Gives every unit of a microbatch a mask from the stream of the copy it looks at.

    Dropout is allowed in mode `none` alone, so a stream's torch generator, seeded once from
    the site's own source, needs to be repeatable and independent, not secret.
    """

    def __init__(self, stack: AdapterStack, streams: Sequence[RandomSource]) -> None:
        """Draws one seed from each of `streams`, one per copy."""
        self._stack = stack
        seeds = [int(stream.integers(2**63, 1)[0]) for stream in streams]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, x: torch.Tensor, p: float) -> torch.Tensor:
        """What dropout with probability `p` multiplies `x` ``[B, …]`` by."""
        drawn = [
            torch.rand(x.shape[1:], generator=self._generators[owner])
            for owner in self._stack.owners.tolist()
        ]
        return (torch.stack(drawn) >= p).to(x) / (1 - p)

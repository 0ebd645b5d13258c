"""Histories as the scores over the whole catalogue read them: cut, padded, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.context import ContextEncoder
from common.interactions import Int64Array


@dataclass(frozen=True)
class ScoredHistories:
    """U histories, each with one place to be scored at: its end.

    Attributes:
        items: ``[U, H]`` int64, oldest first, zero-padded on the right.
        ends: ``[U]`` int64, lengths.
        mask: ``[U, H]`` bool.
        context: ``[U, 1, c]`` float32; None where the model reads none.
    """

    items: torch.Tensor
    ends: torch.Tensor
    mask: torch.Tensor
    context: torch.Tensor | None

    @classmethod
    def of(
        cls,
        histories: Sequence[Int64Array],
        max_history: int,
        encoder: ContextEncoder,
        device: torch.device,
    ) -> ScoredHistories:
        """Takes the most recent items of each of U ≥ 1 histories.

        Args:
            histories: Item indices, oldest first; `Requests` where the model reads context.
            max_history: Most items of a history.
            encoder: Of the context.
            device: Where the tensors go.

        Raises:
            DataError: The model reads context, and these are histories alone.
        """
        cut = [history[-max_history:] for history in histories]
        padded = np.zeros((len(cut), max(1, *map(len, cut))), dtype=np.int64)
        for row, history in enumerate(cut):
            padded[row, : len(history)] = history
        items = torch.from_numpy(padded).to(device)
        ends = torch.tensor([len(history) for history in cut]).to(device)
        mask = torch.arange(items.shape[1], device=device) < ends[:, None]
        context = None
        if encoder.width:
            context = torch.from_numpy(encoder.of_requests(histories))[:, None].to(device)
        return cls(items, ends, mask, context)

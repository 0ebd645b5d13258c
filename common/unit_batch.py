"""The tensors of a step's contributions, padded to each other's sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class UnitBatch:
    """Padded tensors of B contributions; H history items, m targets, N candidates.

    Attributes:
        history: ``[B, H]`` int64, oldest first, zero-padded on the right.
        history_mask: ``[B, H]`` bool.
        positions: ``[B, m]`` int64; target j may look at history places below it.
        target_mask: ``[B, m]`` bool.
        ratings: ``[B, m]`` float32.
        target_items: ``[B, m]`` int64.
        candidates: ``[B, N]`` int64; ``[1, N]`` where all units share them.
        target_columns: ``[B, m]`` int64.
        others_allowed: ``[B, N]`` bool, candidates that may stand against a target.
        live: Number of leading candidate columns with a gradient through LoRA.
        live_scale: ``[B, live]`` float32, or ``[1, live]`` like the candidates.
    """

    history: torch.Tensor
    history_mask: torch.Tensor
    positions: torch.Tensor
    target_mask: torch.Tensor
    ratings: torch.Tensor
    target_items: torch.Tensor
    candidates: torch.Tensor
    target_columns: torch.Tensor
    others_allowed: torch.Tensor
    live: int
    live_scale: torch.Tensor

    def to(self, device: torch.device) -> UnitBatch:
        """The same batch with its tensors on `device`."""
        values: dict[str, Any] = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in vars(self).items()
        }
        return UnitBatch(**values)

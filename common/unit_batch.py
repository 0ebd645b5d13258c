"""The tensors of a step's contributions, padded to each other's sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from common.errors import DataError


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
        context: ``[B, m, c]`` float32, context features of each target; None: there are none.
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
    context: torch.Tensor | None = None

    def context_of(self, width: int) -> torch.Tensor | None:
        """The context of a model that reads `width` features; None for one that reads none.

        Raises:
            DataError: The units have another number of features, or none.
        """
        if width == 0:
            return None
        found = 0 if self.context is None else self.context.shape[2]
        if found != width:
            raise DataError(
                f"the model reads {width} context features, the units have {found}; make units and "
                "model from the same configuration"
            )
        return self.context

    def to(self, device: torch.device) -> UnitBatch:
        """The same batch with its tensors on `device`."""
        values: dict[str, Any] = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in vars(self).items()
        }
        return UnitBatch(**values)

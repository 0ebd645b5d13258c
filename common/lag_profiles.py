"""Lag profiles: how much each item of a history counts, at several half-lives."""

from __future__ import annotations

import torch

HALF_LIVES = (0.5, 2.0, 6.0, 20.0, 80.0, 400.0)  # items
MEAN_PROFILE = (0.0, 1 / 3, 1 / 3, 1 / 3, 0.0, 0.0)  # the recent past as one profile


def lag_weights(
    history_mask: torch.Tensor, positions: torch.Tensor, half_lives: torch.Tensor
) -> torch.Tensor:
    """Normalised weights of the history before each position, per half-life.

    Args:
        history_mask: ``[B, H]`` bool.
        positions: ``[B, m]`` int64; places below the position count, the nearest most.
        half_lives: ``[L]`` in items.

    Returns:
        ``[B, m, L, H]``; each profile sums to 1, or is all zero without any history.
    """
    places = torch.arange(history_mask.shape[1], device=positions.device)
    age = positions[:, :, None] - 1 - places  # [B, m, H]
    visible = (age >= 0) & history_mask[:, None, :]
    decay = torch.exp2(-age.clamp(min=0)[:, :, None, :] / half_lives[:, None])  # [B, m, L, H]
    weights = decay * visible[:, :, None, :]
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / total.clamp(min=1e-30), torch.zeros_like(weights))

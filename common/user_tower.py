"""The user tower and the score: several lag profiles over the user's recent items.

All trainable parameters live in `nn.Linear` modules, so that per-unit gradients are those
of Opacus' linear rule; the lag profiles are a fixed bank of half-lives that the trainable
mixing weights combine.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from common.config import ModelConfig

HALF_LIVES = (0.5, 2.0, 6.0, 20.0, 80.0, 400.0)  # items


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


def _mlp(width: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    if hidden == 0:
        return nn.Sequential(nn.Linear(width, out))
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, out)
    )


class MultiLagHead(nn.Module):
    """Two item MLPs, lag profiles mixed by one matrix, a residual MLP, a dot product."""

    half_lives: torch.Tensor

    def __init__(self, width: int, config: ModelConfig):
        """Builds the head for whitened text vectors of `width` numbers."""
        super().__init__()
        dim = config.head_dim
        self.scale = 1.0 / math.sqrt(dim)
        self.register_buffer("half_lives", torch.tensor(HALF_LIVES), persistent=False)
        self.candidate = _mlp(width, config.head_hidden, dim, config.dropout)
        self.history = _mlp(width, config.head_hidden, dim, config.dropout)
        self.mix = nn.Linear(len(HALF_LIVES) * dim, dim, bias=False)
        self.residual = _mlp(dim, dim, dim, config.dropout)
        self.temperature = nn.Linear(1, 1, bias=False)
        self.text_bias = nn.Linear(width, 1, bias=False)
        with torch.no_grad():
            self.temperature.weight.fill_(1.0)
            self.text_bias.weight.zero_()

    def forward(
        self, history: torch.Tensor, weights: torch.Tensor, candidates: torch.Tensor
    ) -> torch.Tensor:
        """Scores.

        Args:
            history: ``[B, H, d]`` whitened text vectors.
            weights: ``[B, m, L, H]`` from `lag_weights`.
            candidates: ``[B, N, d]``, or ``[1, N, d]`` for one catalogue scored for all units.

        Returns:
            ``[B, m, N]``.
        """
        means = torch.einsum("bmlh,bhe->bmle", weights, self.history(history))
        user = self.mix(means.flatten(2))  # [B, m, e]
        user = user + self.residual(user)
        item = self.candidate(candidates)  # [B, N, e]
        dots = torch.matmul(user, item.transpose(1, 2)) * self.scale  # [B, m, N]
        bias = self.text_bias(candidates).transpose(1, 2)  # [B, 1, N]
        scores: torch.Tensor = self.temperature(dots[..., None]).squeeze(-1) + bias
        return scores


class BilinearHead(nn.Module):
    """One p×p matrix per lag on the first p whitened directions; few released numbers."""

    half_lives: torch.Tensor

    def __init__(self, width: int, config: ModelConfig):
        """Builds the head; it starts at zero, so the score starts at the text floor."""
        super().__init__()
        self.dim = min(config.head_dim, width)
        self.scale = 1.0 / math.sqrt(self.dim)
        self.register_buffer("half_lives", torch.tensor(HALF_LIVES), persistent=False)
        self.mix = nn.Linear(len(HALF_LIVES) * self.dim, self.dim, bias=False)
        self.text_bias = nn.Linear(self.dim, 1, bias=False)
        with torch.no_grad():
            self.mix.weight.zero_()
            self.text_bias.weight.zero_()

    def forward(
        self, history: torch.Tensor, weights: torch.Tensor, candidates: torch.Tensor
    ) -> torch.Tensor:
        """Scores ``[B, m, N]``; arguments as in `MultiLagHead.forward`."""
        means = torch.einsum("bmlh,bhe->bmle", weights, history[..., : self.dim])
        user = self.mix(means.flatten(2))  # [B, m, p]
        item = candidates[..., : self.dim]
        bias = self.text_bias(item).transpose(1, 2)
        scores: torch.Tensor = torch.matmul(user, item.transpose(1, 2)) * self.scale + bias
        return scores


def build_head(width: int, config: ModelConfig) -> MultiLagHead | BilinearHead:
    """The head that `config.head` names."""
    return (
        MultiLagHead(width, config) if config.head == "multi_lag" else BilinearHead(width, config)
    )

"""The user tower and the score: several lag profiles over the user's recent items.

All trainable parameters live in `nn.Linear` modules, so that per-unit gradients are those
of Opacus' linear rule; the lag profiles are a fixed bank of half-lives that the trainable
mixing weights combine.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from common.bilinear_head import BilinearHead, ItemRows, ItemSide, context_layer
from common.config import ModelConfig
from common.lag_profiles import HALF_LIVES


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
        self.text_bias.requires_grad_(config.score_terms == "trained")
        with torch.no_grad():
            self.temperature.weight.fill_(1.0)
            self.text_bias.weight.zero_()
        self.context = context_layer(config, dim)

    def set_item_prior(self, prior: torch.Tensor) -> None:
        """Nothing to do: only text enters this head."""

    def forward(
        self,
        history: ItemRows,
        weights: torch.Tensor,
        candidates: ItemRows,
        context: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Scores ``[B, m, N]``; arguments as in `BilinearHead.forward`."""
        user = self._user(self.history(history.vectors), weights, context)
        item = self.candidate(candidates.vectors)  # [B, N, e]
        dots = torch.matmul(user, item.transpose(1, 2)) * self.scale  # [B, m, N]
        bias = self.text_bias(candidates.vectors).transpose(1, 2)  # [B, 1, N]
        scores: torch.Tensor = self.temperature(dots[..., None]).squeeze(-1) + bias
        return scores

    def item_side(self, rows: ItemRows) -> ItemSide:
        """What `forward` knows of items ``[1, N]``, whoever asks; a query is of width e."""
        vectors = rows.vectors[0]
        return ItemSide(
            self.history(vectors), self.candidate(vectors), self.text_bias(vectors)[:, 0]
        )

    def queries(
        self, shown: torch.Tensor, weights: torch.Tensor, context: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``[B, m, e]``; arguments as in `BilinearHead.queries`."""
        queries: torch.Tensor = self._user(shown, weights, context) * self.scale
        return queries * self.temperature.weight[0, 0]

    def add_items(self, count: int) -> None:
        """Nothing to do: only text enters this head."""

    def _user(
        self, shown: torch.Tensor, weights: torch.Tensor, context: torch.Tensor | None
    ) -> torch.Tensor:
        means = torch.einsum("bmlh,bhe->bmle", weights, shown)
        user: torch.Tensor = self.mix(means.flatten(2))  # [B, m, e]
        user = user + self.residual(user)
        if self.context is not None and context is not None:
            user = user + self.context(context)
        return user


def build_head(width: int, config: ModelConfig) -> MultiLagHead | BilinearHead:
    """The head that `config.head` names."""
    return (
        MultiLagHead(width, config) if config.head == "multi_lag" else BilinearHead(width, config)
    )

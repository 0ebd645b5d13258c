"""What a score has beside the head: similarity of texts, the popularity prior, an offset."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from common.config import ModelConfig
from common.lag_profiles import HALF_LIVES, MEAN_PROFILE

SIMILARITY_START = tuple(14 * weight for weight in MEAN_PROFILE)  # the text floor


class ScoreTerms(nn.Module):
    """What the score has before anything is learned: similarity, prior, calibration."""

    softening: torch.Tensor

    def __init__(self, config: ModelConfig, softening: torch.Tensor):
        """Starts at the text floor for ranking; ratings start mid-scale.

        Args:
            config: The model's configuration.
            softening: ``[d]``, see `Whitening`.
        """
        super().__init__()
        self.register_buffer("softening", softening, persistent=False)
        self.similarity = nn.Linear(len(HALF_LIVES), 1, bias=False)
        self.prior = nn.Linear(1, 1, bias=False)
        self.offset = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.similarity.weight.copy_(torch.tensor([SIMILARITY_START]))
            self.prior.weight.fill_(1.0)
            self.offset.weight.fill_(3.0 if config.objective == "rating" else 0.0)
        self.is_trained = config.score_terms == "trained"
        self.requires_grad_(self.is_trained)

    def forward(
        self,
        history: torch.Tensor,
        weights: torch.Tensor,
        candidates: torch.Tensor,
        prior: torch.Tensor,
    ) -> torch.Tensor:
        """``[B, m, N]`` from ``[B, H, d]``, ``[B, m, L, H]``, ``[B|1, N, d]``, ``[B|1, N]``."""
        profile = self.profile(self.directions(history), weights)
        terms: torch.Tensor = torch.matmul(profile, self.directions(candidates).transpose(1, 2))
        terms = terms + self.prior(prior[..., None]).squeeze(-1)[:, None, :]
        ones = torch.ones(history.shape[0], 1, 1, device=history.device)
        offset: torch.Tensor = self.offset(ones)
        return terms + offset

    def bias(self, prior: torch.Tensor) -> torch.Tensor:
        """``[V]``, what the score has without any history, from the prior ``[V]``."""
        bias: torch.Tensor = self.prior(prior[:, None])[:, 0] + self.offset.weight[0, 0]
        return bias

    def profile(self, history: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """``[B, m, d]``: the history's directions, weighted by lag and half-life."""
        if not self.is_trained:  # one weight per item, whatever the width
            mixed = torch.einsum("bmlh,l->bmh", weights, self.similarity.weight[0])
            return torch.matmul(mixed, history)
        recent = torch.einsum("bmlh,bhd->bmdl", weights, history)
        profile: torch.Tensor = self.similarity(recent).squeeze(-1)
        return profile

    def directions(self, vectors: torch.Tensor) -> torch.Tensor:
        """Texts of unit length, ``[..., d]``, in which cosines order them best."""
        return F.normalize(vectors * self.softening, dim=-1)

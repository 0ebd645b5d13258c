"""The bilinear head: history against candidate, over text directions and item codes.

An item's features are its first p whitened text directions and, for the k most popular
items, a coordinate of its own (a one-hot code). Which items those are follows from the
released popularity prior, so it costs no ε, and every site that received the same prior
picks the same ones. A matrix learns which features in the history raise which features of a
candidate: item by item where an item is popular enough to tell, by text everywhere.

``per_lag`` has one matrix per half-life. ``symmetric`` has one symmetric matrix S = W + Wᵀ
for the mean of the recent past: "who watched a, watches b" holds both ways round. Under
noise that is worth much: the gradient by W is symmetric, so clipping spends nothing on an
antisymmetric part, and the noise's antisymmetric half drops out of S.

Where the model reads context (`common.context`), a matrix of its own learns which features of
the user and of the moment raise which features of a candidate.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from common.config import ModelConfig
from common.context import ContextEncoder
from common.lag_profiles import HALF_LIVES, MEAN_PROFILE

_CONTEXT_LENGTH = 0.5  # a few features together then speak about as loudly as the history


class ItemRows(NamedTuple):
    """Items as a head sees them.

    Attributes:
        vectors: ``[B, N, d]`` whitened text vectors.
        items: ``[B, N]`` int64 catalogue indices.
    """

    vectors: torch.Tensor
    items: torch.Tensor


class ItemSide(NamedTuple):
    """What a head knows of V items before anybody asks.

    Attributes:
        shown: ``[V, f]``, what it reads of an item in a history.
        offered: ``[V, e]``, what a query is multiplied with.
        bias: ``[V]``.
    """

    shown: torch.Tensor
    offered: torch.Tensor
    bias: torch.Tensor


def context_layer(config: ModelConfig, out: int) -> nn.Linear | None:
    """From context features to what they want of an item; starts at zero, and None without any."""
    width = ContextEncoder.of(config).width
    if width == 0:
        return None
    layer = nn.Linear(width, out, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
    return layer


class BilinearHead(nn.Module):
    """History against candidate, over text directions and item codes."""

    places: torch.Tensor
    profile: torch.Tensor

    def __init__(self, width: int, config: ModelConfig):
        """Builds the head; it starts at zero, so the score starts at the text floor."""
        super().__init__()
        self.dim, self.codes = min(config.head_dim, width), config.head_items
        self.symmetric = self.two_sided = config.head_matrix == "symmetric"
        self.scale = 1.0 / math.sqrt(self.dim)
        # Whitened coordinates have about unit variance: a code this long balances the text.
        self.code_length = config.head_items_scale * math.sqrt(self.dim)
        features = self.dim + self.codes
        blocks = 1 if self.symmetric else len(HALF_LIVES)
        self.mix = nn.Linear(blocks * features, features, bias=False)
        self.text_bias = nn.Linear(self.dim, 1, bias=False)
        self.text_bias.requires_grad_(config.score_terms == "trained")
        self.register_buffer("places", torch.zeros(0, dtype=torch.long), persistent=False)
        self.register_buffer("profile", torch.tensor(MEAN_PROFILE), persistent=False)
        with torch.no_grad():
            self.mix.weight.zero_()
            self.text_bias.weight.zero_()
        self.context = context_layer(config, features)

    def set_item_prior(self, prior: torch.Tensor) -> None:
        """Gives codes to the k items of the largest `prior` ``[V]``; ties by index."""
        ranked = torch.argsort(prior, descending=True, stable=True)[: self.codes]
        places = torch.full((len(prior),), self.codes, dtype=torch.long, device=prior.device)
        places[ranked] = torch.arange(len(ranked), device=prior.device)
        self.places = places  # k means: no code of its own

    def features(self, rows: ItemRows) -> torch.Tensor:
        """``[B, N, p + k]``: text directions, then the code (zero for a less popular item)."""
        text = rows.vectors[..., : self.dim]
        if self.codes == 0:
            return text
        codes = torch.eye(self.codes + 1, self.codes, device=text.device) * self.code_length
        return torch.cat([text, codes[self.places[rows.items]]], dim=-1)

    def forward(
        self,
        history: ItemRows,
        weights: torch.Tensor,
        candidates: ItemRows,
        context: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Scores.

        Args:
            history: ``[B, H]`` items.
            weights: ``[B, m, L, H]`` from `lag_weights`.
            candidates: ``[B, N]`` items, or ``[1, N]`` for one catalogue scored for all units.
            context: ``[B, m, c]`` features; only where the model reads any.

        Returns:
            ``[B, m, N]``.
        """
        item = self.features(candidates)  # [B|1, N, p + k]
        past = self.past(self.features(history), weights)  # [B, m, blocks · (p + k)]
        scores: torch.Tensor = torch.matmul(self.mix(past), item.transpose(1, 2))
        if self.two_sided:  # `mix` is W alone; the other half of W + Wᵀ is its use on items
            scores = scores + torch.matmul(past, self.mix(item).transpose(1, 2))
        if self.context is not None and context is not None:
            wanted = self.context(self._lengthened(context))
            scores = scores + torch.matmul(wanted, item.transpose(1, 2))
        bias: torch.Tensor = self.text_bias(item[..., : self.dim]).transpose(1, 2)  # [B|1, 1, N]
        return scores * self.scale + bias

    def item_side(self, rows: ItemRows) -> ItemSide:
        """What `forward` knows of items ``[1, N]``, whoever asks; a query is of width p + k."""
        features = self.features(rows)[0]
        return ItemSide(features, features, self.text_bias(features[:, : self.dim])[:, 0])

    def queries(
        self, shown: torch.Tensor, weights: torch.Tensor, context: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``[B, m, p + k]``, such that the score is a query times what is offered, plus its bias.

        Args:
            shown: ``[B, H, p + k]``, the histories' rows of `ItemSide.shown`.
            weights: As in `forward`.
            context: As in `forward`.
        """
        past = self.past(shown, weights)
        wanted: torch.Tensor = self.mix(past)
        if self.two_sided:
            wanted = wanted + past @ self.mix.weight  # Wᵀ, for the items' half of W + Wᵀ
        if self.context is not None and context is not None:
            wanted = wanted + self.context(self._lengthened(context))
        return wanted * self.scale

    def add_items(self, count: int) -> None:
        """Makes room for `count` more items at the catalogue's end; they have no code."""
        self.places = F.pad(self.places, (0, count), value=self.codes)

    def _lengthened(self, context: torch.Tensor) -> torch.Tensor:
        return context * (_CONTEXT_LENGTH * math.sqrt(self.dim))

    def past(self, features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """``[B, m, blocks · (p + k)]``: a mean per half-life, or one mean's direction."""
        if not self.symmetric:
            return torch.einsum("bmlh,bhe->bmle", weights, features).flatten(2)
        mean = torch.einsum("bmlh,l->bmh", weights, self.profile) @ features
        # A long history's mean is short; its direction speaks as loudly as a short one's.
        direction: torch.Tensor = F.normalize(mean, dim=-1)
        return direction * math.sqrt(self.dim)

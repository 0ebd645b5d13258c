"""The recommender: item tower, user tower, on-site text similarity and item prior.

score(user, item) = head(user's history, item) + similarity of the item's text to the
user's recent items + weight · popularity prior. Histories stay at the site; texts, the
whitening and the prior are public.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertModel

from common.bilinear_head import ItemRows
from common.config import ModelConfig
from common.frozen_prefix import FrozenPrefix
from common.item_tower import ItemTower
from common.lag_profiles import HALF_LIVES, MEAN_PROFILE, lag_weights
from common.objectives import OBJECTIVES
from common.privacy_units import UnitBatch
from common.user_tower import build_head
from common.whitening import Whitening, fit_whitening

SIMILARITY_START = tuple(14 * weight for weight in MEAN_PROFILE)  # the text floor
_SCORE_BATCH = 32


class Recommender(nn.Module):
    """Scores items of the catalogue for histories; see the module's docstring."""

    half_lives: torch.Tensor

    def __init__(self, bert: BertModel, prefix: FrozenPrefix, config: ModelConfig, seed: int):
        """Builds the model; `seed` is the public seed of LoRA's A and the head's start."""
        super().__init__()
        self.config = config
        self.item_tower = ItemTower(bert, prefix, config, seed)
        self.whitening: Whitening = fit_whitening(self.item_tower.table())
        width = int(bert.config.hidden_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = build_head(width, config)
        self.score = ScoreTerms(config, self.whitening.softening)
        self.register_buffer("half_lives", torch.tensor(HALF_LIVES), persistent=False)
        if config.item_side == "lora":
            self.head.requires_grad_(False)
            self.score.requires_grad_(False)
        self.set_item_prior(torch.zeros(len(prefix.offsets) - 1))
        self._table: torch.Tensor | None = None
        self._table_lora = ""
        self._objective = OBJECTIVES[config.objective]

    @property
    def trains_lora(self) -> bool:
        """Whether candidate rows need a gradient through BERT."""
        return self.config.item_side != "head"

    def train(self, mode: bool = True) -> Recommender:
        """Puts the trainable Linears and the head in training mode; BERT stays in eval.

        Opacus' hooks only see modules in training mode, and BERT's own dropout would be
        random work that no claim needs.
        """
        super().train(False)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.weight.requires_grad:
                module.training = mode
        self.head.train(mode)
        return self

    def keep_table_for(self, lora_sha256: str) -> None:
        """Forgets the item table unless it was made for LoRA factors of this hash.

        Within a round the table stays as the received adapter made it.
        """
        if lora_sha256 != self._table_lora:
            self._table, self._table_lora = None, lora_sha256

    def set_item_prior(self, prior: torch.Tensor) -> None:
        """Sets the popularity prior ``[V]`` that the server made of the sites' releases."""
        self.item_prior = prior
        self.head.set_item_prior(prior)

    def table(self) -> torch.Tensor:
        """Whitened text vectors ``[V, d]`` under the current adapter, without gradient."""
        if self._table is None:
            self._table = self.whitening(self.item_tower.table())
        return self._table

    def unit_losses(self, batch: UnitBatch) -> torch.Tensor:
        """One loss per unit, ``[B]``: the mean over the unit's targets."""
        scores = self._scores(batch)  # [B, m, N]
        targets = scores.gather(2, batch.target_columns[..., None]).squeeze(-1)
        losses = self._objective(targets, scores, batch.others_allowed, batch.ratings)
        mask = batch.target_mask.to(losses.dtype)
        return (losses * mask).sum(1) / mask.sum(1).clamp(min=1)

    def _scores(self, batch: UnitBatch) -> torch.Tensor:
        table = self.table()
        history = table[batch.history]  # [B, H, d]
        weights = lag_weights(batch.history_mask, batch.positions, self.half_lives)
        candidates = self._candidate_vectors(batch, table)
        prior = self.item_prior[batch.candidates]
        scores: torch.Tensor = self.head(
            ItemRows(history, batch.history), weights, ItemRows(candidates, batch.candidates)
        )
        terms: torch.Tensor = self.score(history, weights, candidates, prior)
        return scores + terms

    def live_items(self, batch: UnitBatch) -> torch.Tensor:
        """``[B, R]``: the items whose texts carry LoRA's gradient in the units' losses."""
        return batch.candidates[:, : batch.live if self.trains_lora else 0]

    def _candidate_vectors(self, batch: UnitBatch, table: torch.Tensor) -> torch.Tensor:
        """``[B, N, d]``; the live columns carry a gradient through BERT."""
        vectors = table[batch.candidates]
        if not self.trains_lora or batch.live == 0:
            return vectors
        live_items = self.live_items(batch)  # unit-major rows
        live = self.whitening(self.item_tower(live_items.reshape(-1)))
        live = live.view(*live_items.shape, -1)
        scale = batch.live_scale[..., None]  # 0 where a unit has no live row in this column
        scaled = live.detach() + (live - live.detach()) * scale
        # A unit's scores must depend on that unit alone, not on its neighbours' live rows.
        live = torch.where(scale > 0, scaled, vectors[:, : batch.live])
        return torch.cat([live, vectors[:, batch.live :]], dim=1)

    @torch.no_grad()
    def score_all(self, histories: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """Scores the whole catalogue for each history (oldest first).

        Returns:
            ``[U, V]`` float32.
        """
        was_training = self.head.training
        self.eval()
        rows = [
            self._score_batch(histories[start : start + _SCORE_BATCH])
            for start in range(0, len(histories), _SCORE_BATCH)
        ]
        self.train(was_training)
        if not rows:
            return np.empty((0, len(self.item_prior)), dtype=np.float32)
        return torch.cat(rows).numpy().astype(np.float32, copy=False)

    def _score_batch(self, histories: Sequence[npt.NDArray[np.int64]]) -> torch.Tensor:
        cut = [h[-self.config.max_history :] for h in histories]
        width = max(1, max(len(h) for h in cut))
        items = torch.zeros(len(cut), width, dtype=torch.long)
        lengths = torch.tensor([len(h) for h in cut])
        for row, h in enumerate(cut):
            items[row, : len(h)] = torch.from_numpy(np.asarray(h, dtype=np.int64))
        mask = torch.arange(width) < lengths[:, None]
        table = self.table()
        history = table[items]
        weights = lag_weights(mask, lengths[:, None], self.half_lives)
        candidates, prior = table[None], self.item_prior[None]
        catalogue = ItemRows(candidates, torch.arange(len(table))[None])
        scores: torch.Tensor = self.head(ItemRows(history, items), weights, catalogue)
        terms: torch.Tensor = self.score(history, weights, candidates, prior)
        return (scores + terms)[:, 0]


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
        self.requires_grad_(config.score_terms == "trained")

    def forward(
        self,
        history: torch.Tensor,
        weights: torch.Tensor,
        candidates: torch.Tensor,
        prior: torch.Tensor,
    ) -> torch.Tensor:
        """``[B, m, N]`` from ``[B, H, d]``, ``[B, m, L, H]``, ``[B|1, N, d]``, ``[B|1, N]``."""
        recent = torch.einsum("bmlh,bhd->bmdl", weights, self._directions(history))
        profile = self.similarity(recent).squeeze(-1)  # [B, m, d]
        terms: torch.Tensor = torch.matmul(profile, self._directions(candidates).transpose(1, 2))
        terms = terms + self.prior(prior[..., None]).squeeze(-1)[:, None, :]
        ones = torch.ones(history.shape[0], 1, 1, device=history.device)
        offset: torch.Tensor = self.offset(ones)
        return terms + offset

    def _directions(self, vectors: torch.Tensor) -> torch.Tensor:
        return F.normalize(vectors * self.softening, dim=-1)

"""The recommender: item tower, user tower, on-site text similarity and item prior.

score(user, item) = head(user's history and context, item) + similarity of the item's text to
the user's recent items + weight · popularity prior, and, outside training, what the
item-to-item component adds. Histories and context stay at the site; texts, the whitening, the
prior and the component are public.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import BertModel

from common.bilinear_head import BilinearHead, ItemRows
from common.config import ModelConfig
from common.context import ContextEncoder
from common.errors import DataError
from common.frozen_prefix import FrozenPrefix
from common.item_to_item import ItemToItem
from common.item_tower import ItemTower
from common.lag_profiles import HALF_LIVES, lag_weights
from common.objectives import OBJECTIVES
from common.rating_output import build_rating_output, target_rows
from common.score_terms import ScoreTerms
from common.scored_histories import ScoredHistories
from common.unit_batch import UnitBatch
from common.user_tower import build_head
from common.whitening import Whitening, fit_whitening

_SCORE_BATCH = 32


class _Sides(NamedTuple):
    """What the outputs read: the history's rows, its lag weights, the candidates' rows."""

    history: ItemRows
    weights: torch.Tensor
    offered: ItemRows


class Recommender(nn.Module):
    """Scores items of the catalogue for histories; see the module's docstring."""

    half_lives: torch.Tensor
    item_prior: torch.Tensor
    beside: torch.Tensor | None

    def __init__(
        self,
        bert: BertModel,
        prefix: FrozenPrefix,
        config: ModelConfig,
        seed: int,
        whitening: Whitening | None = None,
        beside: torch.Tensor | None = None,
    ):
        """Builds the model on the device of `bert`.

        Args:
            bert: The frozen base model.
            prefix: Its lower layers' states of every item text.
            config: The model's configuration.
            seed: Public seed of LoRA's A and of the head's start.
            whitening: Of the catalogue's base vectors; None: fitted here to what `bert` gives.
            beside: ``[V, w]`` public vectors of the items beside their texts, if it reads any.
        """
        super().__init__()
        self.config = config
        self.item_tower = ItemTower(bert, prefix, config, seed)
        if whitening is None:
            weight = config.item_vectors_weight
            whitening = fit_whitening(self.item_tower.table(), beside, weight)
        self.whitening = whitening
        width = int(bert.config.hidden_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = build_head(width, config)
        self.rating = build_rating_output(self.head, config)
        self.score = ScoreTerms(config, self.whitening.softening)
        self.register_buffer("half_lives", torch.tensor(HALF_LIVES), persistent=False)
        if config.item_side == "lora":
            self.head.requires_grad_(False)
            self.score.requires_grad_(False)
        self.register_buffer("item_prior", torch.zeros(len(prefix)), persistent=False)
        self.register_buffer("beside", beside, persistent=False)
        self.to(self.item_tower.device)
        self.set_item_prior(self.item_prior)
        self._table: torch.Tensor | None = None
        self._table_lora = ""
        self._item_to_item: ItemToItem | None = None
        self._objective = OBJECTIVES[config.objective]
        self._encoder = ContextEncoder.of(config)

    @property
    def device(self) -> torch.device:
        """Where scores are computed; they are handed out on the CPU."""
        return self.half_lives.device

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

    def replace_table(self, table: torch.Tensor) -> None:
        """Scores by other text vectors ``[V, d]``, until other LoRA factors are loaded."""
        self._table = table

    def set_item_prior(self, prior: torch.Tensor) -> None:
        """Sets the popularity prior ``[V]`` that the server made of the sites' releases."""
        self.item_prior = prior.to(self.device)
        self.head.set_item_prior(self.item_prior)

    def set_item_to_item(self, component: ItemToItem | None) -> None:
        """Sets what `score_all` mixes in; training never sees it."""
        self._item_to_item = component

    @property
    def item_to_item(self) -> ItemToItem | None:
        """What `score_all` mixes in."""
        return self._item_to_item

    def table(self) -> torch.Tensor:
        """Whitened vectors ``[V, d]`` of items under the current adapter, without gradient."""
        if self._table is None:
            self._table = self.whitening(self.item_tower.table(), self.beside)
        return self._table

    def use_text_vectors(self, vectors: torch.Tensor) -> None:
        """Takes ``[V, d]``, not whitened, for the item tower's vectors, until an adapter comes."""
        self._table = self.whitening(vectors.to(self.device), self.beside)

    def unit_losses(self, batch: UnitBatch) -> torch.Tensor:
        """One loss per unit, ``[B]``: the mean over the unit's targets.

        The batch is best left on the CPU, where it was made: from it the rows of the frozen
        prefix are found without waiting for the device.
        """
        live = self._live_rows(batch)
        batch = batch.to(self.device)
        sides = self._sides(batch, live)
        scores = self._scores(batch, sides)  # [B, m, N]
        targets = scores.gather(2, batch.target_columns[..., None]).squeeze(-1)
        losses = self._objective(targets, scores, batch.others_allowed, batch.ratings)
        if self.rating is not None and isinstance(self.head, BilinearHead):
            past = self.head.past(self.head.features(sides.history), sides.weights)
            items = target_rows(sides.offered, batch.target_columns, self.head)
            predicted = self.rating(self.head, past, items, targets)
            losses = losses + self.config.rating_weight * self.rating.errors(
                predicted, batch.ratings
            )
        mask = batch.target_mask.to(losses.dtype)
        return (losses * mask).sum(1) / mask.sum(1).clamp(min=1)

    def live_items(self, batch: UnitBatch) -> torch.Tensor:
        """``[B, R]``: the items whose texts carry LoRA's gradient in the units' losses.

        A batch without live candidates trains no LoRA, so its histories carry none either.
        """
        items = batch.candidates[:, : batch.live if self.trains_lora else 0]
        if self.trains_lora and self.config.history_gradient and batch.live:
            items = torch.cat([items, batch.history], dim=1)
        return items

    def _live_rows(self, batch: UnitBatch) -> torch.Tensor | None:
        """``[B, R, d]`` vectors with a gradient through BERT, R of each unit; None: there are none.

        The live candidates come first, then the history where it carries a gradient. One
        call for both, with the rows of a unit side by side: per-unit gradients need that.
        """
        items = self.live_items(batch)
        if items.shape[1] == 0:
            return None
        flat = items.reshape(-1)
        beside = None if self.beside is None else self.beside[flat.to(self.device)]
        vectors: torch.Tensor = self.whitening(self.item_tower(flat), beside)
        return vectors.view(*items.shape, -1)

    def _sides(self, batch: UnitBatch, live: torch.Tensor | None) -> _Sides:
        candidates, history = self._vectors(batch, live)
        weights = lag_weights(batch.history_mask, batch.positions, self.half_lives)
        return _Sides(
            ItemRows(history, batch.history), weights, ItemRows(candidates, batch.candidates)
        )

    def _scores(self, batch: UnitBatch, sides: _Sides) -> torch.Tensor:
        history, weights, offered = sides
        prior = self.item_prior[batch.candidates]
        context = batch.context_of(self._encoder.width)
        scores: torch.Tensor = self.head(history, weights, offered, context)
        terms: torch.Tensor = self.score(history.vectors, weights, offered.vectors, prior)
        return scores + terms

    def _vectors(
        self, batch: UnitBatch, live: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors of candidates ``[B, N, d]`` and history ``[B, H, d]``.

        What is not live comes from the item table, which is not made where all is live.
        """
        if live is None:
            table = self.table()
            return table[batch.candidates], table[batch.history]
        rows, history = live[:, : batch.live], live[:, batch.live :]
        if not self.config.history_gradient:
            history = self.table()[batch.history]
        if batch.live == batch.candidates.shape[1]:
            return _rescaled(rows, rows.detach(), batch.live_scale), history
        candidates = self.table()[batch.candidates]
        rows = _rescaled(rows, candidates[:, : batch.live], batch.live_scale)
        return torch.cat([rows, candidates[:, batch.live :]], dim=1), history

    @torch.no_grad()
    def score_all(self, histories: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """Scores the whole catalogue for each history (oldest first).

        Args:
            histories: U of them; a model with context needs `common.requests.Requests`.

        Returns:
            ``[U, V]`` float32.

        Raises:
            DataError: The model reads context, and these are histories alone.
        """
        return self.scores(histories).cpu().numpy()

    @torch.no_grad()
    def scores(self, histories: Sequence[npt.NDArray[np.int64]]) -> torch.Tensor:
        """As `score_all`, left on the device."""
        was_training = self.head.training
        self.eval()
        rows = [torch.empty(0, len(self.item_prior), device=self.device)] + [
            self._score_batch(histories[start : start + _SCORE_BATCH])
            for start in range(0, len(histories), _SCORE_BATCH)
        ]
        self.train(was_training)
        return torch.cat(rows)

    @torch.no_grad()
    def predicted_ratings(
        self, histories: Sequence[npt.NDArray[np.int64]]
    ) -> npt.NDArray[np.float32]:
        """Ratings of the whole catalogue for each history, within the scale: ``[U, V]``.

        The click score in them is the model's own, without the item-to-item component.

        Raises:
            DataError: The objective is not `click_rating`, so that there is no such output.
        """
        if self.rating is None or not isinstance(self.head, BilinearHead):
            raise DataError(
                f"model.objective={self.config.objective} has no output of ratings beside clicks; "
                "train with model.objective=click_rating"
            )
        rows = [np.zeros((0, len(self.item_prior)), dtype=np.float32)]
        catalogue = torch.arange(len(self.item_prior), device=self.device)[None]
        items = self.head.features(ItemRows(self.table()[None], catalogue))
        for start in range(0, len(histories), _SCORE_BATCH):
            asked = self._asked(histories[start : start + _SCORE_BATCH])
            weights = lag_weights(asked.mask, asked.ends[:, None], self.half_lives)
            shown = ItemRows(self.table()[asked.items], asked.items)
            past = self.head.past(self.head.features(shown), weights)
            scores = self._own_scores(asked, weights)
            rows.append(self.rating(self.head, past, items, scores).float().cpu().numpy())
        return np.concatenate(rows)

    def _asked(self, histories: Sequence[npt.NDArray[np.int64]]) -> ScoredHistories:
        return ScoredHistories.of(histories, self.config.max_history, self._encoder, self.device)

    def _score_batch(self, histories: Sequence[npt.NDArray[np.int64]]) -> torch.Tensor:
        asked = self._asked(histories)
        weights = lag_weights(asked.mask, asked.ends[:, None], self.half_lives)
        total = self._own_scores(asked, weights).float()
        if self._item_to_item is not None:
            total += torch.from_numpy(self._item_to_item.scores(histories)).to(self.device)
        return total

    def _own_scores(self, asked: ScoredHistories, weights: torch.Tensor) -> torch.Tensor:
        table = self.table()
        history = table[asked.items]
        candidates, prior = table[None], self.item_prior[None]
        catalogue = ItemRows(candidates, torch.arange(len(table), device=self.device)[None])
        shown = ItemRows(history, asked.items)
        scores: torch.Tensor = self.head(shown, weights, catalogue, asked.context)
        terms: torch.Tensor = self.score(history, weights, candidates, prior)
        return (scores + terms)[:, 0]


def _rescaled(live: torch.Tensor, still: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`live` ``[B, R, d]`` with its gradient times `scale` ``[B, R]``; `still` where that is 0.

    A unit's scores must depend on that unit alone, not on its neighbours' live rows.
    """
    scale = scale[..., None]  # 0 where a unit has no live row in this column
    scaled = live.detach() + (live - live.detach()) * scale
    return torch.where(scale > 0, scaled, still)

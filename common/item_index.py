"""Scores of the whole catalogue from what is known of the items before anybody asks.

`Recommender.scores` computes everything anew, because in training everything changes. At a
site that serves, the items stand still: the score is then one query made of the history,
times a row per item, plus a bias per item, plus the item-to-item component:

score(user, item) = query(history, context) · vectors[item] + bias[item] + item-to-item

It is the recommender's score, up to the order in which floating-point numbers are added. Of a
large catalogue only candidates are scored (`common.approximate_index`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from common.approximate_index import DEPTH, ApproximateIndex, approximate_index
from common.bilinear_head import BilinearHead, ItemRows
from common.blend import PLAIN, Blend
from common.context import ContextEncoder
from common.item_to_item import ItemToItem
from common.lag_profiles import lag_weights
from common.new_items import NewItemRule, rule_of
from common.recommender import Recommender
from common.score_terms import ScoreTerms
from common.scored_histories import ScoredHistories
from common.tfidf import TextWords
from common.user_tower import MultiLagHead

Int64Array = npt.NDArray[np.int64]
Histories = Sequence[Int64Array]
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """An adapter's scores of V items, on the CPU; nothing in it changes.

    Attributes:
        vectors: ``[V, w]``: what the head offers, then the text's direction.
        shown: ``[V, f]``: what the head reads of an item in a history.
        bias: ``[V]``.
        of_text: ``[V]``, what the text's direction in `vectors` was multiplied with.
        head: A copy of the recommender's.
        terms: A copy of the recommender's.
        half_lives: ``[L]``.
        max_history: Most items of a history that the query reads.
        encoder: Of the context.
        item_to_item: None where the run has none.
        approximate: of a large catalogue; None: every request scores all items.
        blend: factors of the score's parts.
        words: of all items, where the blend has TF-IDF.
    """

    vectors: torch.Tensor
    shown: torch.Tensor
    bias: torch.Tensor
    of_text: torch.Tensor
    head: MultiLagHead | BilinearHead
    terms: ScoreTerms
    half_lives: torch.Tensor
    max_history: int
    encoder: ContextEncoder
    item_to_item: ItemToItem | None
    approximate: ApproximateIndex | None = None
    blend: Blend = PLAIN
    words: TextWords | None = None

    def __len__(self) -> int:
        return len(self.bias)

    def for_large_catalogues(self, from_items: int, folder: Path | None) -> ItemIndex:
        """This index, with one of candidates where it has more than `from_items` items.

        Args:
            from_items: usually `common.approximate_index.FROM_ITEMS`.
            folder: where the index of candidates is kept; None: nowhere.
        """
        if len(self) <= from_items:
            return self
        return replace(self, approximate=approximate_index(self, folder))

    def best(self, history: Histories, k: int) -> tuple[Int64Array, npt.NDArray[np.float32]]:
        """Items, rising, and their exact scores: all items, or candidates for the best.

        There are at least k outside the history, if there are so many at all.

        Args:
            history: as in `scores`.
            k: length of the list that is to be chosen from them.
        """
        if self.approximate is not None:
            had = np.unique(history[0])
            (query,) = self.queries(history)
            count = max(DEPTH, 4 * k) + len(had)
            items = self.approximate.candidates(query.numpy(), min(count, len(self)))
            of_words = self._of_words(history[0])
            if of_words is not None:  # the index of candidates does not know of words
                nearest = np.argpartition(-of_words, min(count, len(self) - 1))[:count]
                items = np.union1d(items, nearest)
            if len(items) - int(np.isin(had, items).sum()) >= k:
                return items, self._scores_of(history[0], query, items)
        return np.arange(len(self)), self.scores(history)

    @torch.no_grad()
    def _scores_of(
        self, history: npt.NDArray[np.int64], query: torch.Tensor, items: Int64Array
    ) -> npt.NDArray[np.float32]:
        rows = torch.from_numpy(items)
        scores: npt.NDArray[np.float32] = torch.addmv(
            self.bias[rows], self.vectors[rows], query
        ).numpy()
        component = self.item_to_item
        if component is not None:
            known = items < component.catalogue_size
            mixed = component.scores_of(history)[items[known]]
            scores[known] += self.blend.item_to_item * mixed
        of_words = self._of_words(history)
        if of_words is not None:
            scores += of_words[items]
        return scores

    def _of_words(self, history: Int64Array) -> npt.NDArray[np.float32] | None:
        """``[V]``, what TF-IDF adds to the scores; None: nothing."""
        if self.words is None:
            return None
        found: npt.NDArray[np.float32] = self.words.scores(history) * np.float32(self.blend.tfidf)
        return found

    def text_columns(self) -> Int64Array:
        """The columns of `vectors` that are no codes of single items."""
        codes = range(0)
        if isinstance(self.head, BilinearHead):
            codes = range(self.head.dim, self.head.dim + self.head.codes)
        return np.setdiff1d(np.arange(self.vectors.shape[1]), np.array(codes, dtype=np.int64))

    def singular_items(self) -> Int64Array:
        """Items whose score has a part of their own: a code, or weights to other items."""
        found = np.zeros(0, dtype=np.int64)
        if isinstance(self.head, BilinearHead):
            found = np.flatnonzero(self.head.places.numpy() < self.head.codes)
        if self.item_to_item is not None:
            found = np.union1d(found, self.item_to_item.items)
        return found

    @torch.no_grad()
    def scores(self, history: Histories) -> npt.NDArray[np.float32]:
        """``[V]`` float32 for one history.

        Args:
            history: One, oldest first; `Requests` of one where the model reads context.
        """
        (query,) = self.queries(history)
        scores: npt.NDArray[np.float32] = torch.addmv(self.bias, self.vectors, query).numpy()
        if self.item_to_item is not None:
            mixed = self.item_to_item.scores_of(history[0])
            # items that are newer than the run have none
            scores[: len(mixed)] += self.blend.item_to_item * mixed
        of_words = self._of_words(history[0])
        return scores if of_words is None else scores + of_words

    @torch.no_grad()
    def scores_of_item(self, histories: Histories, item: int) -> npt.NDArray[np.float32]:
        """``[U]`` float32: what one item scores for each of U ≥ 1 histories."""
        queries = self.queries(histories)
        scores: npt.NDArray[np.float32] = (queries @ self.vectors[item] + self.bias[item]).numpy()
        component = self.item_to_item
        if component is not None and item < component.catalogue_size:
            mixed = np.array([component.scores_of(history)[item] for history in histories])
            scores += self.blend.item_to_item * mixed
        if self.words is not None:
            near = [self.words.scores(history)[item] for history in histories]
            scores += self.blend.tfidf * np.array(near, dtype=np.float32)
        return scores

    @torch.no_grad()
    def queries(self, histories: Histories) -> torch.Tensor:
        """``[U, w]`` for U ≥ 1 histories."""
        asked = ScoredHistories.of(histories, self.max_history, self.encoder, _CPU)
        weights = self._weights(asked)
        width = self.vectors.shape[1] - len(self.terms.softening)
        rows = F.embedding(asked.items, self.vectors)  # a row is read once for both its parts
        offered, directions = rows[..., :width], rows[..., width:]
        shown = offered if self._is_shown_as_offered else self.shown[asked.items]
        wanted = self.head.queries(shown, weights, asked.context)
        if not self._is_text_plain:
            directions = directions / self.of_text[asked.items][..., None]
        profile = self.terms.profile(directions, weights)
        parts = [wanted * self.blend.head, profile * self.blend.text]
        return torch.cat(parts, dim=-1)[:, 0]

    def _weights(self, asked: ScoredHistories) -> torch.Tensor:
        """``[U, 1, L, H]``; those of one history depend on its length alone."""
        if len(asked.items) > 1:
            return lag_weights(asked.mask, asked.ends[:, None], self.half_lives)
        key = int(asked.ends[0])
        if key not in self._weights_by_length:
            found = lag_weights(asked.mask, asked.ends[:, None], self.half_lives)
            self._weights_by_length[key] = found
        return self._weights_by_length[key]

    @cached_property
    def _weights_by_length(self) -> dict[int, torch.Tensor]:
        """At most one entry for each length up to `max_history`."""
        return {}

    @cached_property
    def _is_shown_as_offered(self) -> bool:
        return self.shown.data_ptr() == self.vectors.data_ptr()

    @cached_property
    def _is_text_plain(self) -> bool:
        return bool((self.of_text == 1).all())


@torch.no_grad()
def build_index(
    recommender: Recommender,
    new_items: torch.Tensor | None = None,
    rule: NewItemRule | None = None,
    blend: Blend = PLAIN,
    words: TextWords | None = None,
) -> ItemIndex:
    """The index of what is loaded in `recommender`, which may then load something else.

    Args:
        recommender: In evaluation mode.
        new_items: ``[n, d]`` whitened text vectors of items that the run did not know. They
            come after the catalogue; they have no code, no item-to-item weights, and the mean
            prior, as in the figures of cold items.
        rule: By which new items are scored; None: that of the model (`common.new_items`).
        blend: Factors of the score's parts.
        words: Of all items, new ones last; left out where the blend has no TF-IDF.
    """
    known = len(recommender.item_prior)
    table, prior = recommender.table().cpu(), recommender.item_prior.cpu()
    head, terms = copy.deepcopy(recommender.head).cpu().eval(), copy.deepcopy(recommender.score)
    terms = terms.cpu().eval()
    if new_items is not None:
        table = torch.cat([table, new_items.cpu()])
        prior = torch.cat([prior, torch.zeros(len(new_items))])
        head.add_items(len(new_items))
    side = head.item_side(ItemRows(table[None], torch.arange(len(table))[None]))
    by = rule or rule_of(recommender.config)
    of_head, of_text, lift = (torch.full((len(table),), start) for start in (1.0, 1.0, 0.0))
    of_head[known:], of_text[known:], lift[known:] = by.head, by.text, by.lift
    offered, directions = side.offered * of_head[:, None], terms.directions(table)
    vectors = torch.cat([offered, directions * of_text[:, None]], dim=1).contiguous()
    is_same = side.shown is side.offered and bool((of_head == 1).all())  # in memory once, then
    return ItemIndex(
        vectors=vectors,
        shown=vectors[:, : offered.shape[1]] if is_same else side.shown,
        bias=side.bias * of_head * blend.head + terms.bias(prior) * blend.prior + lift,
        of_text=of_text,
        head=head,
        terms=terms,
        half_lives=recommender.half_lives.cpu(),
        max_history=recommender.config.max_history,
        encoder=ContextEncoder.of(recommender.config),
        item_to_item=recommender.item_to_item,
        blend=blend,
        words=words if blend.tfidf else None,
    )

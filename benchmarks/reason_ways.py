"""Ways to say which item or word counts, and how far one ranking agrees with another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import LayerIntegratedGradients
from scipy.stats import spearmanr
from transformers import BertModel, PreTrainedTokenizerBase

from common.item_index import ItemIndex
from common.lag_profiles import MEAN_PROFILE, lag_weights

Floats = npt.NDArray[np.float64]
Span = tuple[int, int]
STEPS = 32


def lag_attention(length: int, index: ItemIndex) -> Floats:
    """``[length]``: how much the user tower weighs each place of a history; all items alike."""
    kept = min(length, index.max_history)
    mask = torch.ones(1, kept, dtype=torch.bool)
    weights = lag_weights(mask, torch.tensor([[kept]]), index.half_lives)[0, 0]  # [L, kept]
    mixed = torch.tensor(MEAN_PROFILE) @ weights
    return np.concatenate([np.zeros(length - kept), mixed.double().numpy()])


def agreement(found: Floats, exact: Floats) -> float:
    """Spearman's rank correlation; 0 where one of them ranks nothing."""
    if np.ptp(found) == 0 or np.ptp(exact) == 0:
        return 0.0
    return float(spearmanr(found, exact).statistic)


def best(values: Floats, count: int) -> list[int]:
    """Places of the largest values; of equal ones the later place, as the more recent item."""
    order = np.lexsort((-np.arange(len(values)), -values))
    return [int(place) for place in order[:count]]


def to_words(of_tokens: Sequence[float], tokens: Sequence[Span], words: Sequence[Span]) -> Floats:
    """Sums tokens over the words that their characters lie in; punctuation is nobody's."""
    sums = np.zeros(len(words))
    for value, (start, end) in zip(of_tokens, tokens, strict=True):
        for place, (first, last) in enumerate(words):
            if start < end and first <= start and end <= last:
                sums[place] += value
    return sums


def rollout(attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """``[T]`` attention rollout (Abnar & Zuidema, 2020) to the mean over tokens.

    Args:
        attentions: per layer ``[heads, T, T]``, rows sum to 1.
    """
    flow = torch.eye(attentions[0].shape[-1])
    for layer in attentions:
        flow = (0.5 * layer.mean(0) + 0.5 * torch.eye(len(flow))) @ flow
    return flow.mean(0)


def last_layer(attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """``[T]``: what the mean over tokens attends to in the last layer, over its heads."""
    return attentions[-1].mean(0).mean(0)


class TokenWays:
    """A text's tokens, weighed by attention and by Captum's integrated gradients."""

    def __init__(
        self, bert: BertModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int
    ) -> None:
        """Of a BERT that nobody else uses: it is made to show its attention."""
        bert.set_attn_implementation("eager")
        self._bert, self._tokenizer, self._max_tokens = bert, tokenizer, max_tokens

    def of(
        self, text: str, words: Sequence[Span], score: Callable[[torch.Tensor], torch.Tensor]
    ) -> dict[str, Floats]:
        """What each way gives each word.

        Args:
            text: of the item.
            words: places of its words' characters.
            score: from text vectors ``[N, d]`` to scores ``[N]``, differentiable.
        """
        encoded = self._tokenizer(
            text, truncation=True, max_length=self._max_tokens, return_offsets_mapping=True
        )
        spans = [(int(start), int(end)) for start, end in encoded["offset_mapping"]]
        ids = torch.tensor([encoded["input_ids"]])
        with torch.no_grad():
            found = self._bert(input_ids=ids, output_attentions=True).attentions
        layers = [layer[0] for layer in found]
        ways = {
            "attention, last layer": last_layer(layers),
            "attention, rollout": rollout(layers),
            "integrated gradients": self._gradients(ids, score),
        }
        return {name: to_words(values.tolist(), spans, words) for name, values in ways.items()}

    def _gradients(
        self, ids: torch.Tensor, score: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """``[T]``, from a text of padding between the same two marks."""

        def forward(tokens: torch.Tensor) -> torch.Tensor:
            return score(self._bert(input_ids=tokens).last_hidden_state.mean(1))

        bare = torch.full_like(ids, int(self._tokenizer.pad_token_id or 0))
        bare[:, 0], bare[:, -1] = ids[:, 0], ids[:, -1]
        way = LayerIntegratedGradients(forward, self._bert.embeddings)
        given = way.attribute(ids, baselines=bare, n_steps=STEPS, internal_batch_size=STEPS)
        values: torch.Tensor = given[0].sum(-1).detach()
        return values

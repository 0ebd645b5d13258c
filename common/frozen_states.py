"""What frozen BERT layers make of texts, without any work on padding.

Texts of equal length run together, so that no row is longer than its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import BertModel, PreTrainedTokenizerBase

Int64Array = npt.NDArray[np.int64]

_TEXTS_AT_ONCE = 10_000  # for the tokenizer, which answers in Python lists
_BATCH_TOKENS = {"cpu": 2_048}
_ACCELERATOR_BATCH_TOKENS = 65_536


@dataclass(frozen=True)
class TokenisedTexts:
    """Token numbers of texts, one text after another.

    Attributes:
        ids: ``[tokens]`` int32.
        lengths: ``[texts]`` int64, at least 2: every text has a first and a last token.
    """

    ids: npt.NDArray[np.int32]
    lengths: Int64Array

    def rows(self, texts: Int64Array) -> torch.Tensor:
        """``[N, T]`` int64 token numbers of `texts`, which must be equally long."""
        starts = np.cumsum(self.lengths) - self.lengths
        places = starts[texts][:, None] + np.arange(self.lengths[texts[0]])
        return torch.from_numpy(self.ids[places].astype(np.int64))


def tokenise(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> TokenisedTexts:
    """Token numbers of `texts`, each cut after `max_tokens`."""
    parts, lengths = [np.empty(0, dtype=np.int32)], []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = list(texts[start : start + _TEXTS_AT_ONCE])
        rows = tokenizer(some, truncation=True, max_length=max_tokens)["input_ids"]
        lengths += [len(row) for row in rows]
        parts.append(np.concatenate([np.asarray(row, dtype=np.int32) for row in rows]))
    return TokenisedTexts(np.concatenate(parts), np.array(lengths, dtype=np.int64))


def equal_length_batches(
    order: Int64Array, lengths: Int64Array, device: torch.device
) -> Iterator[Int64Array]:
    """Cuts `order` into batches of equally long texts.

    Args:
        order: ``[N]`` text numbers, equally long ones side by side.
        lengths: ``[texts]`` by text number.
        device: what the batches run on; says how many tokens are worth while at once.
    """
    tokens = _BATCH_TOKENS.get(device.type, _ACCELERATOR_BATCH_TOKENS)
    ordered = lengths[order]
    edges = np.flatnonzero(np.diff(ordered)) + 1
    for same in np.split(order, edges):
        if len(same):
            size = max(1, tokens // int(lengths[same[0]]))
            yield from (same[at : at + size] for at in range(0, len(same), size))


@torch.no_grad()
def hidden_states(bert: BertModel, ids: torch.Tensor, layers: int) -> torch.Tensor:
    """``[N, T, d]`` after the first `layers` layers, from ``[N, T]`` tokens without padding."""
    hidden: torch.Tensor = bert.embeddings(input_ids=ids.to(bert.device))
    for layer in bert.encoder.layer[:layers]:
        hidden = layer(hidden)
    return hidden


def base_vectors(
    bert: BertModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> torch.Tensor:
    """Mean over tokens of what the whole base model makes of each text, ``[V, d]`` on the CPU."""
    tokens = tokenise(tokenizer, texts, max_tokens)
    vectors = torch.empty(len(texts), int(bert.config.hidden_size))
    order = np.argsort(tokens.lengths, kind="stable")
    for batch in equal_length_batches(order, tokens.lengths, bert.device):
        hidden = hidden_states(bert, tokens.rows(batch), len(bert.encoder.layer))
        vectors[torch.from_numpy(batch)] = hidden.float().mean(1).cpu()
    return vectors

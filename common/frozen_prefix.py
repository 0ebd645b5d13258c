"""Hidden states of the frozen layers below the adapter, once per distinct text.

Layers under the first LoRA layer never change, so their output for a text is computed
once and kept without padding: one row per real token.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import BertModel, PreTrainedTokenizerBase

from common.cache_folder import cache_folder
from common.errors import ConfigError

_BATCH_TEXTS = 128


@dataclass(frozen=True)
class FrozenPrefix:
    """Hidden states of every distinct text after the frozen layers.

    Attributes:
        states: ``[tokens, d]`` float32, all texts one after another, no padding.
        offsets: ``[texts + 1]`` int64; text ``i`` owns rows ``offsets[i]:offsets[i + 1]``.
    """

    states: torch.Tensor
    offsets: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """Real tokens per text, ``[texts]`` int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def gather(self, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pads the states of `texts` to their longest.

        Args:
            texts: ``[N]`` int64, indices of texts; repeats are allowed.

        Returns:
            ``[N, T, d]`` states (padding repeats a real token) and ``[N, T]`` bool mask.
        """
        lengths = self.lengths[texts]
        width = int(lengths.max())
        steps = torch.arange(width, device=texts.device)
        mask = steps < lengths[:, None]  # [N, T]
        rows = self.offsets[texts][:, None] + torch.minimum(steps, lengths[:, None] - 1)
        return self.states[rows], mask


def frozen_layers(total_layers: int, lora_layers: int) -> int:
    """Number of layers below the adapter.

    Raises:
        ConfigError: More LoRA layers than the model has.
    """
    if lora_layers > total_layers:
        raise ConfigError(
            [f"model.lora_layers must be at most {total_layers}, got {lora_layers}; lower it"]
        )
    return total_layers - lora_layers


def frozen_prefix(
    bert: BertModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    layers: int,
    max_tokens: int,
    weights_sha256: str,
    cache: Path | None = None,
) -> FrozenPrefix:
    """Runs embeddings and the first `layers` layers over `texts`, or reads the cache.

    The cache is keyed by texts, weights, layer, token limit and precision, and written
    atomically.
    """
    folder = cache or cache_folder()
    key = json.dumps([list(texts), weights_sha256, layers, max_tokens, "float32"])
    path = folder / "prefix" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
    stored = _read(path) if weights_sha256 else None
    if stored is None:
        stored = _compute(bert, tokenizer, texts, layers, max_tokens)
        if weights_sha256:
            _write(path, *stored)
    states, offsets = stored
    return FrozenPrefix(torch.from_numpy(states), torch.from_numpy(offsets))


Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@torch.no_grad()
def _compute(
    bert: BertModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layers: int,
    max_tokens: int,
) -> Arrays:
    tokens = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    lengths = np.array([len(row) for row in tokens], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    states = np.empty((int(offsets[-1]), bert.config.hidden_size), dtype=np.float32)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), _BATCH_TEXTS):
        batch = order[start : start + _BATCH_TEXTS]
        width = int(lengths[batch].max())
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        for row, text in enumerate(batch):
            ids[row, : lengths[text]] = torch.tensor(tokens[text])
        mask = torch.arange(width) < torch.from_numpy(lengths[batch])[:, None]
        hidden = bert.embeddings(input_ids=ids)  # [N, T, d]
        for layer in bert.encoder.layer[:layers]:
            hidden = layer(hidden, mask[:, None, None, :])
        for row, text in enumerate(batch):
            states[offsets[text] : offsets[text + 1]] = hidden[row, : lengths[text]].numpy()
    return states, offsets


def _read(path: Path) -> Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            states, offsets = file["states"], file["offsets"]
    except (OSError, ValueError, KeyError):  # absent or damaged: computed again
        return None
    return states, offsets


def _write(path: Path, states: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64]) -> None:
    """Writes the cache; a machine that cannot keep it only computes again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, states=states, offsets=offsets)
        os.replace(temporary, path)
    except OSError:
        return

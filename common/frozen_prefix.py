"""Hidden states of the frozen layers below the adapter, once per distinct text.

Layers under the first LoRA layer never change, so their output for a text is computed
once and kept without padding: one row per real token. What a text gives depends on the
text, the weights, the number of layers, the token limit and the precision; a catalogue
that shares texts with an earlier one takes their states from its file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import BertModel, PreTrainedTokenizerBase

from common.atomic_files import file_errors, os_error_line
from common.cache_folder import cache_folder
from common.devices import free_memory_bytes
from common.errors import ConfigError
from common.prefix_building import PrefixBuild
from common.prefix_store import StoredStates, file_name, read_states, text_digests

_DEVICE_SHARE = 0.25  # of the free memory of a device that states may take

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrozenPrefix:
    """Hidden states of every text after the frozen layers.

    Attributes:
        states: ``[tokens, d]`` float32 or bfloat16, no padding; memory-mapped while it is on
            the CPU, and never to be written to.
        offsets: ``[texts]`` int64 on the CPU; text ``i`` owns the rows from ``offsets[i]``
            to ``offsets[i] + lengths[i]``, and equal texts own the same ones.
        lengths: ``[texts]`` int64 on the CPU, real tokens per text.
    """

    states: torch.Tensor
    offsets: torch.Tensor
    lengths: torch.Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def on(self, device: torch.device) -> FrozenPrefix:
        """The prefix with its states on `device`, if they take no great part of its memory."""
        fits = self.states.nbytes <= _DEVICE_SHARE * free_memory_bytes(device)
        return replace(self, states=self.states.to(device)) if fits else self

    def gather(self, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pads the states of `texts` to their longest.

        Args:
            texts: ``[N]`` int64, indices of texts; repeats are allowed. On the CPU, where
                the lengths are; from elsewhere they must be waited for.

        Returns:
            ``[N, T, d]`` states (padding repeats a real token) and ``[N, T]`` bool mask,
            both on the device of `states`.
        """
        texts = texts.cpu()
        lengths = self.lengths[texts]
        steps = torch.arange(int(lengths.max()))
        mask = steps < lengths[:, None]  # [N, T]
        rows = self.offsets[texts][:, None] + torch.minimum(steps, lengths[:, None] - 1)
        device = self.states.device
        return self.states[rows.to(device)], mask.to(device)


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
    """Runs embeddings and the first `layers` layers over `texts`, or maps what is kept of it.

    Args:
        bert: the base model, on the device and in the precision to compute in.
        tokenizer: its tokenizer.
        texts: of the catalogue.
        layers: how many layers are frozen.
        max_tokens: a text is cut after so many.
        weights_sha256: of the base weights; without it nothing is kept.
        cache: the cache folder; None: the user's.
    """
    digests = text_digests(texts)
    build = PrefixBuild(bert, tokenizer, texts, digests, layers, max_tokens)
    key = json.dumps([weights_sha256, layers, max_tokens, str(bert.dtype)])
    alike = hashlib.sha256(key.encode()).hexdigest()[:32]
    folder = (cache or cache_folder()) / "prefix" / alike
    path = folder / file_name(digests)
    stored = read_states(path) if weights_sha256 else None
    if stored is None and weights_sha256:
        stored = _kept(build, path)
    if stored is None:
        stored = _unkept(build)
    index = stored.index
    return FrozenPrefix(
        stored.states, torch.from_numpy(index.offsets), torch.from_numpy(index.lengths)
    )


def _kept(build: PrefixBuild, path: Path) -> StoredStates | None:
    """Writes the states to `path` and maps them; None where the disk will not have them."""
    is_damaged = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            # Of two processes that start together one computes and the other waits for it.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if is_damaged:
                path.unlink(missing_ok=True)
            found = read_states(path)
            if found is None:
                build.write(path)
                found = read_states(path)
            return found
    except OSError as error:
        line = os_error_line(f"frozen states cannot be kept in {path.parent}", error)
        logger.warning("%s; until then every start computes them", line)
        return None


def _unkept(build: PrefixBuild) -> StoredStates:
    """Maps states that are gone when the process ends.

    Raises:
        RunFolderError: there is no room for them in the folder for temporary files either.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file_name(build.digests)
        with file_errors("write", path):
            build.write(path)
            stored = read_states(path)
            if stored is None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
    return stored

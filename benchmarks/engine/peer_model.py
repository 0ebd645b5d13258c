"""The peers' model, written as a practitioner would: BERT, PEFT's LoRA, mean pooling, dot product.

It imports nothing of fedrec, so that a peer in another environment can use it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertModel
from transformers.utils import logging as transformers_logging

RANK = 8
HISTORY = 20


class TwoTower(nn.Module):
    """Scores a positive and negatives against the mean of the history."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Scores ``[B, 5]`` of the candidates, from ``[B, 25, T]`` token ids and mask."""
        examples, rows, tokens = ids.shape
        hidden = self.bert(
            input_ids=ids.reshape(-1, tokens), attention_mask=mask.reshape(-1, tokens)
        ).last_hidden_state  # [B·25, T, d]
        weight = mask.reshape(-1, tokens, 1).to(hidden.dtype)
        vectors = (hidden * weight).sum(1) / weight.sum(1)
        vectors = vectors.view(examples, rows, -1)
        user = vectors[:, :HISTORY].mean(1)  # [B, d]
        return torch.einsum("bd,bnd->bn", user, vectors[:, HISTORY:])


def build_model(data: Path, lora_layers: int, device: str) -> TwoTower:
    """Loads BERT and attaches LoRA to query and value of its top layers, in training mode."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    location = (data / "weights.txt").read_text(encoding="utf-8")
    bert = BertModel.from_pretrained(location, add_pooling_layer=False)
    layers = int(bert.config.num_hidden_layers)
    lora = LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        target_modules=["query", "value"],
        layers_to_transform=list(range(layers - lora_layers, layers)),
        layers_pattern="layer",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = TwoTower(get_peft_model(bert, lora))
    return model.to(device).train()


def loss_of(scores: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy of the positive, which stands first."""
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))


class SiteExamples(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A site's examples as token ids and mask ``[25, T]`` each."""

    def __init__(self, data: Path, sites: int, site: int) -> None:
        catalogue = np.load(data / "catalogue.npz")
        self._ids = torch.from_numpy(catalogue["ids"])
        self._mask = torch.from_numpy(catalogue["mask"])
        rows = np.load(data / f"site-{sites}-{site}.npy")
        self._rows = torch.from_numpy(rows.astype(np.int64))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        films = self._rows[index]
        return self._ids[films], self._mask[films]


def adapter_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The trainable tensors by name."""
    return {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}


def load_adapter(model: nn.Module, adapter: dict[str, torch.Tensor]) -> None:
    """Puts the received tensors into the model."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in adapter.items():
            parameters[name].copy_(value)

"""The item tower: text → frozen BERT with LoRA in the top layers → masked mean.

Only the layers that carry LoRA run here; what lies below comes from `FrozenPrefix`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import BertModel

from common.config import ModelConfig
from common.frozen_prefix import FrozenPrefix

LORA_TARGETS = ("query", "value")


class ItemTower(nn.Module):
    """BERT's top layers with LoRA over the cached prefix of every item text."""

    def __init__(self, bert: BertModel, prefix: FrozenPrefix, config: ModelConfig, seed: int):
        """Attaches LoRA to query and value of the top `config.lora_layers` layers.

        Args:
            bert: The frozen base model; its top layers are adapted in place.
            prefix: Hidden states of the item texts below those layers.
            config: Adapter kind, rank and depth; s = α/r is fixed at 1.
            seed: Public seed of LoRA's A.
        """
        super().__init__()
        total = int(bert.config.num_hidden_layers)
        self.first_layer = total - config.lora_layers
        self.prefix = prefix
        self.peft = with_lora(bert, config, seed)
        train_a = config.adapter == "fedit"
        trained = config.item_side != "head"
        for name, parameter in self.peft.named_parameters():
            parameter.requires_grad_(
                trained and ("lora_B" in name or ("lora_A" in name and train_a))
            )

    @property
    def device(self) -> torch.device:
        """Where the adapted layers are; the prefix may lie elsewhere."""
        return next(self.peft.parameters()).device

    @property
    def bert(self) -> BertModel:
        """The base model, LoRA in its top layers; those below are as they were."""
        return cast(BertModel, self.peft.get_base_model())

    @property
    def layers(self) -> list[nn.Module]:
        """The adapted BERT layers, lowest first."""
        return list(self.bert.encoder.layer)[self.first_layer :]

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Text vectors of `items` under the current adapter.

        Args:
            items: ``[N]`` int64, best on the CPU. Rows of one unit must be adjacent and
                equally many per unit where per-unit gradients are taken.

        Returns:
            ``[N, d]`` masked means over tokens, float32.
        """
        return self._vectors(self.prefix, items)

    def _vectors(self, prefix: FrozenPrefix, items: torch.Tensor) -> torch.Tensor:
        states, real = prefix.gather(items)  # [N, T, d], [N, T]
        hidden, mask = states.to(self.device), real.to(self.device)
        attention = mask[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, attention)
        weight = mask.float()[..., None]
        return (hidden.float() * weight).sum(1) / weight.sum(1)

    def table(self, batch: int = 128) -> torch.Tensor:
        """Text vectors ``[V, d]`` of the whole catalogue, without gradient."""
        return self.table_of(self.prefix, batch)

    @torch.no_grad()
    def table_of(self, prefix: FrozenPrefix, batch: int = 128) -> torch.Tensor:
        """Text vectors of the texts that `prefix` is of, under the current adapter."""
        order = torch.argsort(prefix.lengths, stable=True)
        table = torch.empty(len(order), prefix.states.shape[1], device=self.device)
        for start in range(0, len(order), batch):
            items = order[start : start + batch]
            table[items.to(self.device)] = self._vectors(prefix, items)
        return table


def with_lora(bert: BertModel, config: ModelConfig, seed: int) -> PeftModel:
    """Adapts query and value of the top `config.lora_layers` layers of `bert`, in place.

    Args:
        bert: The base model.
        config: Rank and depth; s = α/r is fixed at 1.
        seed: Public seed of LoRA's A; B starts at zero.
    """
    total = int(bert.config.num_hidden_layers)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(LORA_TARGETS),
        layers_to_transform=list(range(total - config.lora_layers, total)),
        layers_pattern="layer",
    )
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 by an old name; that is not ours to mend.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        adapted: PeftModel = get_peft_model(bert, lora)
    _draw_lora_a(adapted, seed)
    return adapted


def _draw_lora_a(model: PeftModel, seed: int) -> None:
    """Gives every LoRA A orthonormal rows from a public seed; B stays zero (FFA-LoRA)."""
    named = {name: p for name, p in sorted(model.named_parameters()) if "lora_A" in name}
    factors = orthonormal_factors([tuple(p.shape) for p in named.values()], seed)
    with torch.no_grad():
        for parameter, factor in zip(named.values(), factors, strict=True):
            parameter.copy_(factor)


def orthonormal_factors(shapes: Sequence[tuple[int, ...]], seed: int) -> list[torch.Tensor]:
    """One ``[r, d]`` float32 matrix with orthonormal rows per shape, drawn in order."""
    generator = torch.Generator().manual_seed(seed)
    factors = []
    for rank, width in shapes:
        gaussian = torch.randn(width, rank, generator=generator, dtype=torch.float64)
        factors.append(torch.linalg.qr(gaussian).Q.T.float())
    return factors

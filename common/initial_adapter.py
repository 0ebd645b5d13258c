"""The adapter every run starts from: LoRA that changes nothing, a freshly drawn head."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn
from transformers import AutoConfig

from common.adapters import Adapter, adapter_of, shapes
from common.base_weights import resolve_base_weights
from common.config import ModelConfig, RunConfig
from common.errors import WeightsError
from common.frozen_prefix import frozen_layers
from common.item_tower import LORA_TARGETS, orthonormal_factors
from common.rating_output import build_rating_output
from common.score_terms import ScoreTerms
from common.user_tower import build_head


def initial_adapter(config: RunConfig) -> Adapter:
    """Draws the start from public seeds, without loading the base weights.

    It equals what a site's own model holds before training.

    Raises:
        WeightsError: The base model's configuration cannot be had.
        ConfigError: More LoRA layers than the base model has.
    """
    model = config.model
    layers, width = _bert_shape(model)
    adapter: Adapter = {}
    if model.item_side != "head":
        adapter.update(_lora(model, layers, width, config.federation.seed))
    if model.item_side != "lora":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.federation.seed)
            head = build_head(width, model)
        parts: dict[str, nn.Module] = {"head": head, "score": ScoreTerms(model, torch.ones(width))}
        rating = build_rating_output(head, model)
        if rating is not None:
            parts["rating"] = rating
        for prefix, module in parts.items():
            adapter.update({f"{prefix}.{n}": a for n, a in adapter_of(module).items()})
    return dict(sorted(adapter.items()))


@lru_cache(maxsize=8)
def adapter_shapes(config: RunConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the adapter that `config` defines; errors as `initial_adapter`."""
    return shapes(initial_adapter(config))


def _bert_shape(model: ModelConfig) -> tuple[int, int]:
    """Layers and hidden size of the base model."""
    weights = resolve_base_weights(model.weights)
    try:
        bert = AutoConfig.from_pretrained(weights.location)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"base weights {weights.name!r} have no readable configuration; "
            "name a BERT checkpoint in model.weights"
        ) from error
    return int(bert.num_hidden_layers), int(bert.hidden_size)


def _lora(model: ModelConfig, layers: int, width: int, seed: int) -> Adapter:
    """B = 0, and with `fedit` also the orthonormal A of every adapted projection."""
    stems = sorted(
        f"base_model.model.encoder.layer.{layer}.attention.self.{target}"
        for layer in range(frozen_layers(layers, model.lora_layers), layers)
        for target in LORA_TARGETS
    )
    factors = orthonormal_factors([(model.lora_rank, width)] * len(stems), seed)
    adapter: Adapter = {}
    for stem, factor in zip(stems, factors, strict=True):
        zeros = torch.zeros(width, model.lora_rank).numpy()
        adapter[f"lora.{stem}.lora_B.weight"] = zeros
        if model.adapter == "fedit":
            adapter[f"lora.{stem}.lora_A.weight"] = factor.numpy()
    return adapter

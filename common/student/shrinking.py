"""A small BERT out of a large one: a few of its layers, and their largest inner neurons."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn.utils import prune
from transformers import BertConfig, BertModel

from common.errors import ConfigError
from common.recommender import Recommender


def merged_bert(recommender: Recommender) -> BertModel:
    """A plain copy of the recommender's BERT with its LoRA factors added to the weights."""
    merged = copy.deepcopy(recommender.item_tower.peft).merge_and_unload()
    bert: BertModel = cast(BertModel, merged).float().cpu()
    bert.eval().requires_grad_(False)
    return bert


def small_copy(bert: BertModel, layers: Sequence[int], inner: int) -> BertModel:
    """A BERT of `layers` of `bert`, each cut to `inner` neurons between its two linear maps.

    The neurons that stay have the largest magnitude: the norm of what goes in times the norm of
    what comes out. This pruning is structured: the matrices are smaller, not only emptier.

    Raises:
        ConfigError: there is no such layer, or there are fewer neurons.
    """
    depth, width = int(bert.config.num_hidden_layers), int(bert.config.intermediate_size)
    if not layers or not all(0 <= layer < depth for layer in layers):
        raise ConfigError([f"layers must be between 0 and {depth - 1}, got {list(layers)}"])
    if not 0 < inner <= width:
        raise ConfigError([f"inner must be between 1 and {width}, got {inner}"])
    config = BertConfig.from_dict(bert.config.to_dict())
    config.num_hidden_layers, config.intermediate_size = len(layers), inner
    config._attn_implementation = "sdpa"
    small: BertModel = BertModel(config, add_pooling_layer=False)
    small.embeddings.load_state_dict(bert.embeddings.state_dict())
    for place, layer in enumerate(layers):
        weights = bert.encoder.layer[layer].state_dict()
        small.encoder.layer[place].load_state_dict(_largest_neurons(weights, inner))
    small.eval()
    return small


def sparsified(bert: BertModel, share: float) -> BertModel:
    """A copy of `bert` whose linear maps lack the `share` of smallest weights (unstructured)."""
    sparse = copy.deepcopy(bert)
    linear = [module for module in sparse.encoder.modules() if isinstance(module, nn.Linear)]
    prune.global_unstructured(
        [(module, "weight") for module in linear], prune.L1Unstructured, amount=share
    )
    for module in linear:
        prune.remove(module, "weight")
    return sparse


def _largest_neurons(weights: dict[str, torch.Tensor], inner: int) -> dict[str, torch.Tensor]:
    into, out = weights["intermediate.dense.weight"], weights["output.dense.weight"]
    size = into.norm(dim=1) * out.norm(dim=0)
    kept = torch.argsort(size, descending=True, stable=True)[:inner].sort().values
    return weights | {
        "intermediate.dense.weight": into[kept],
        "intermediate.dense.bias": weights["intermediate.dense.bias"][kept],
        "output.dense.weight": out[:, kept],
    }

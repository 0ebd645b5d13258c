"""From a configuration and a catalogue to a recommender, once per process.

Sites of a simulation share the frozen BERT, its cached prefix and the item table; only
the adapter differs from call to call.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from common.base_weights import load_bert, load_tokenizer, resolve_base_weights
from common.config import ModelConfig, RunConfig
from common.devices import resolve_device
from common.frozen_prefix import frozen_layers, frozen_prefix
from common.frozen_states import base_vectors
from common.interactions import Catalogue
from common.item_vectors import fused_vectors
from common.recommender import Recommender
from common.whitening import fit_whitening


def build_recommender(config: RunConfig, catalogue: Catalogue) -> Recommender:
    """Builds (or hands out again) the recommender of `config` over `catalogue`.

    It is on the device that `engine.device` names; with `engine.precision` ``bf16`` the
    frozen weights and states are in bfloat16, and the rest in float32 all the same.

    Raises:
        DeviceError: This machine has no such device.
        ConfigError: It reads item vectors, and names no hash of them.
        DataError: The catalogue's vectors are not those that it reads.
    """
    device = resolve_device(config.engine.device)
    dtype = torch.bfloat16 if config.engine.precision == "bf16" else torch.float32
    return _build(config.model, config.federation.seed, catalogue, device, dtype)


@lru_cache(maxsize=2)
def _build(
    model: ModelConfig, seed: int, catalogue: Catalogue, device: torch.device, dtype: torch.dtype
) -> Recommender:
    weights = resolve_base_weights(model.weights)
    found = fused_vectors(model, catalogue.vectors)
    beside = None if found is None else torch.tensor(found.values)
    bert, tokenizer = load_bert(weights), load_tokenizer(weights)
    bert.to(device)  # type: ignore[arg-type]  # mypy takes it for the decorated class's own
    whitening = None
    if dtype != torch.float32:
        # Its constants are the run's: sites of any precision must have the same.
        table = base_vectors(bert, tokenizer, catalogue.texts, model.max_tokens)
        whitening = fit_whitening(table, beside, model.item_vectors_weight)
        bert.to(dtype)  # type: ignore[arg-type]
    prefix = frozen_prefix(
        bert,
        tokenizer,
        catalogue.texts,
        layers=frozen_layers(int(bert.config.num_hidden_layers), model.lora_layers),
        max_tokens=model.max_tokens,
        weights_sha256=weights.sha256,
    ).on(device)
    recommender = Recommender(bert, prefix, model, seed, whitening, beside)
    recommender.eval()
    return recommender

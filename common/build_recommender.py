"""From a configuration and a catalogue to a recommender, once per process.

Sites of a simulation share the frozen BERT, its cached prefix and the item table; only
the adapter differs from call to call.
"""

from __future__ import annotations

from functools import lru_cache

from common.base_weights import load_bert, load_tokenizer, resolve_base_weights
from common.config import ModelConfig, RunConfig
from common.frozen_prefix import frozen_layers, frozen_prefix
from common.interactions import Catalogue
from common.recommender import Recommender


def build_recommender(config: RunConfig, catalogue: Catalogue) -> Recommender:
    """Builds (or hands out again) the recommender of `config` over `catalogue`."""
    return _build(config.model, config.federation.seed, catalogue)


@lru_cache(maxsize=2)
def _build(model: ModelConfig, seed: int, catalogue: Catalogue) -> Recommender:
    weights = resolve_base_weights(model.weights)
    bert = load_bert(weights)
    prefix = frozen_prefix(
        bert,
        load_tokenizer(weights),
        catalogue.texts,
        layers=frozen_layers(int(bert.config.num_hidden_layers), model.lora_layers),
        max_tokens=model.max_tokens,
        weights_sha256=weights.sha256,
    )
    recommender = Recommender(bert, prefix, model, seed)
    recommender.eval()
    return recommender

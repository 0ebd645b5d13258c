"""Items that came after a run: their text vectors, and the rule by which they are scored.

Nobody can have interacted with a new item, so no count says that it is unpopular and nothing
learned is of it. It gets the mean prior, no item code and no item-to-item part, and

score(user, new item) = head · what the head makes of its text
                        + text · similarity of its text to the user's recent items
                        + mean prior + lift

A head that was trained on known items misjudges new ones, so `head` may damp it. A new item's
score spreads less than a known one's, so `lift` raises all of them alike. The rule looks at
public texts and released statistics alone: it costs no ε.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from common.base_weights import load_tokenizer, resolve_base_weights
from common.config import ModelConfig
from common.frozen_prefix import frozen_layers, frozen_prefix
from common.recommender import Recommender


@dataclass(frozen=True)
class NewItemRule:
    """Weights of a new item's score; 1, 1 and 0 score it as a known item of mean prior.

    Attributes:
        head: of the trained head's part.
        text: of the similarity of texts.
        lift: added.
    """

    head: float = 1.0
    text: float = 1.0
    lift: float = 0.0


RULES = {
    "bilinear": NewItemRule(head=1.0, text=1.0, lift=2.0),
    "multi_lag": NewItemRule(head=0.0, text=5.0, lift=2.0),
}
"""By `model.head`; chosen on validation users and validation items of MovieLens-100K."""


def rule_of(config: ModelConfig) -> NewItemRule:
    """The rule that serving and the figures of cold start use for a model."""
    return RULES[config.head]


@torch.no_grad()
def new_item_vectors(
    recommender: Recommender,
    texts: Sequence[str],
    *,
    keep: bool = True,
    beside: torch.Tensor | None = None,
) -> torch.Tensor:
    """Whitened vectors of new items under the loaded adapter, ``[n, d]``.

    The whitening stays that of the run's catalogue. Arguments as in `new_text_vectors`, and
    `beside`: ``[n, w]`` vectors of the items, where the model reads any; None: the known mean.
    """
    whitening = recommender.whitening
    vectors: torch.Tensor = whitening(new_text_vectors(recommender, texts, keep=keep), beside)
    return vectors


@torch.no_grad()
def new_text_vectors(
    recommender: Recommender, texts: Sequence[str], *, keep: bool = True
) -> torch.Tensor:
    """Text vectors of new items under the loaded adapter, ``[n, d]``, not whitened.

    Args:
        recommender: with the adapter loaded.
        texts: of the items.
        keep: their frozen states in the user's cache folder; not for texts of one moment.
    """
    model, bert = recommender.config, recommender.item_tower.bert
    weights = resolve_base_weights(model.weights)
    prefix = frozen_prefix(
        bert,
        load_tokenizer(weights),
        texts,
        layers=frozen_layers(int(bert.config.num_hidden_layers), model.lora_layers),
        max_tokens=model.max_tokens,
        weights_sha256=weights.sha256 if keep else "",
    )
    vectors: torch.Tensor = recommender.item_tower.table_of(prefix)
    return vectors

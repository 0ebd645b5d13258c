"""The process's recommender with a round's adapter and statistics of items in place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from common.adapters import Adapter, adapter_sha256, load_adapter
from common.build_recommender import build_recommender
from common.config import RunConfig
from common.interactions import Catalogue
from common.item_to_item import NO_WEIGHTS, item_to_item
from common.recommender import Recommender


def loaded_recommender(
    config: RunConfig,
    catalogue: Catalogue,
    adapter: Adapter,
    item_prior: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32] = NO_WEIGHTS,
) -> Recommender:
    """The process's recommender with `adapter`, the prior and the weights in place.

    Args:
        config: the run's configuration.
        catalogue: the public items.
        adapter: the received adapter.
        item_prior: ``[V]`` float32, or ``[0]`` where the run has none.
        weights: triangle of `common.item_to_item`; left out where the run has none, and in
            training, which does not read it.
    """
    recommender = build_recommender(config, catalogue)
    load_round(recommender, adapter, item_prior, weights)
    return recommender


def load_round(
    recommender: Recommender,
    adapter: Adapter,
    item_prior: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32] = NO_WEIGHTS,
) -> None:
    """Puts what a round has into `recommender`; arguments as in `loaded_recommender`."""
    load_adapter(recommender, adapter)
    lora = {name: array for name, array in adapter.items() if name.startswith("lora.")}
    recommender.keep_table_for(adapter_sha256(lora))
    prior = item_prior if len(item_prior) else np.zeros(len(recommender.item_prior), np.float32)
    recommender.set_item_prior(torch.from_numpy(np.array(prior)))
    model = recommender.config
    component = item_to_item(
        weights, prior, most=model.item_to_item_items, weight=model.item_to_item_weight
    )
    recommender.set_item_to_item(component)

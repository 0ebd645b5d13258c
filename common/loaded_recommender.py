"""The process's recommender with a round's adapter and item prior in place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from common.adapters import Adapter, adapter_sha256, load_adapter
from common.build_recommender import build_recommender
from common.config import RunConfig
from common.interactions import Catalogue
from common.recommender import Recommender


def loaded_recommender(
    config: RunConfig,
    catalogue: Catalogue,
    adapter: Adapter,
    item_prior: npt.NDArray[np.float32],
) -> Recommender:
    """The process's recommender with `adapter` and the prior in place.

    Args:
        config: the run's configuration.
        catalogue: the public items.
        adapter: the received adapter.
        item_prior: ``[V]`` float32, or ``[0]`` where the run has none.
    """
    recommender = build_recommender(config, catalogue)
    load_round(recommender, adapter, item_prior)
    return recommender


def load_round(
    recommender: Recommender, adapter: Adapter, item_prior: npt.NDArray[np.float32]
) -> None:
    """Puts `adapter` and prior into `recommender`; arguments as in `loaded_recommender`."""
    load_adapter(recommender, adapter)
    lora = {name: array for name, array in adapter.items() if name.startswith("lora.")}
    recommender.keep_table_for(adapter_sha256(lora))
    prior = item_prior if len(item_prior) else np.zeros(len(recommender.item_prior), np.float32)
    recommender.set_item_prior(torch.from_numpy(np.array(prior)))

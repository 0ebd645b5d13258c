"""The process's recommender, with what a request brings put in place."""

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
    load_adapter(recommender, adapter)
    lora = {name: array for name, array in adapter.items() if name.startswith("lora.")}
    recommender.keep_table_for(adapter_sha256(lora))
    if len(item_prior):
        recommender.set_item_prior(torch.from_numpy(np.array(item_prior)))
    return recommender

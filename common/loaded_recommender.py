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
    """The recommender of `config`, which all sites of a process share, loaded for a request.

    Args:
        config: the run's configuration.
        catalogue: the public items.
        adapter: the trainable tensors.
        item_prior: ``[V]``, or ``[0]`` where the run has none; then the prior stays zero.
    """
    recommender = build_recommender(config, catalogue)
    load_adapter(recommender, adapter)
    lora = {name: array for name, array in adapter.items() if name.startswith("lora.")}
    recommender.keep_table_for(adapter_sha256(lora))
    if len(item_prior):
        recommender.set_item_prior(torch.from_numpy(np.array(item_prior)))
    return recommender

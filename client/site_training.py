"""What a site computes on its model for a request; `client.agent` decides whether it may."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from client.evaluation import metrics_by_user
from client.local_training import sampled_unit_sum, train_plain, train_private
from client.metrics_release import UserMetrics
from client.release import unit_popularity
from client.site_data import SiteData
from client.start_up import prove_private_step
from common.adapters import Adapter, adapter_difference, adapter_of, adapter_sha256, load_adapter
from common.build_recommender import build_recommender
from common.config import RunConfig
from common.flat_adapter import Floats, flatten
from common.holdout import UserSplit
from common.messages import EvaluateRequest, SumRequest, TrainRequest
from common.privacy_units import Unit
from common.randomness import RandomSource
from common.recommender import Recommender


class SiteTraining:
    """One site's units and the process's recommender."""

    def __init__(
        self,
        data: SiteData,
        config: RunConfig,
        units: Sequence[Unit],
        source: Callable[[str, int], RandomSource],
    ) -> None:
        """Binds the site's units to the run.

        Args:
            data: the site's data.
            config: the run's configuration.
            units: the site's privacy units.
            source: the site's randomness by purpose and server round.
        """
        self._data, self._config, self._units, self._source = data, config, units, source

    def update(self, request: TrainRequest, expected_units: float) -> Adapter:
        """Trains one round; noised in a private mode, exact in mode `none`."""
        config, server_round = self._config, request.server_round
        if config.is_private:
            prove_private_step(config, self._data.catalogue)
        recommender = self._loaded(request.adapter, request.item_prior)
        sampling = self._source("sampling", server_round)
        if config.is_private:
            train_private(
                recommender,
                self._units,
                config,
                server_round=server_round,
                expected_units=expected_units,
                sampling=sampling,
                noise=self._source("noise", server_round),
            )
        else:
            train_plain(
                recommender, self._units, config, server_round=server_round, sampling=sampling
            )
        return adapter_difference(adapter_of(recommender), request.adapter)

    def exact_sum(self, request: SumRequest) -> Floats:
        """The site's sum over its units ``[d]``, before any noise: never released as it is."""
        if request.purpose == "popularity":
            return unit_popularity(self._units, len(self._data.catalogue))
        prove_private_step(self._config, self._data.catalogue)
        sums = sampled_unit_sum(
            self._loaded(request.adapter, request.item_prior),
            self._units,
            self._config,
            server_round=request.server_round,
            sampling=self._source("sampling", request.server_round),
        )
        return flatten(sums)

    def measured(self, request: EvaluateRequest, splits: Sequence[UserSplit]) -> UserMetrics:
        """The exact metrics of each user at the request's stage."""
        recommender = self._loaded(request.adapter, request.item_prior)
        return metrics_by_user(recommender, splits, request.stage)

    def _loaded(self, adapter: Adapter, item_prior: npt.NDArray[np.float32]) -> Recommender:
        """The process's recommender with `adapter` and the prior in place."""
        recommender = build_recommender(self._config, self._data.catalogue)
        load_adapter(recommender, adapter)
        lora = {name: array for name, array in adapter.items() if name.startswith("lora.")}
        recommender.keep_table_for(adapter_sha256(lora))
        if len(item_prior):
            recommender.set_item_prior(torch.from_numpy(np.array(item_prior)))
        return recommender

"""What a site has computed on its model for a request; `client.agent` decides whether it may."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from client.evaluation import metrics_by_user
from client.metrics_release import UserMetrics
from client.release import unit_popularity
from client.site_data import SiteData
from client.start_up import prove_private_step
from client.training_job import Trainer, TrainingJob
from common.adapters import Adapter
from common.config import RunConfig
from common.flat_adapter import Floats
from common.holdout import UserSplit
from common.loaded_recommender import loaded_recommender
from common.messages import EvaluateRequest, SumRequest, TrainRequest
from common.privacy_units import Unit
from common.randomness import RandomSource


class SiteTraining:
    """One site's units, its randomness, and the trainer that it asks."""

    def __init__(
        self,
        data: SiteData,
        config: RunConfig,
        units: Sequence[Unit],
        source: Callable[[str, int], RandomSource],
        trainer: Trainer,
    ) -> None:
        """Binds the site's units to the run.

        Args:
            data: the site's data.
            config: the run's configuration.
            units: the site's privacy units.
            source: the site's randomness by purpose and server round.
            trainer: computes what the site's jobs ask for.
        """
        self._data, self._config, self._units, self._source = data, config, units, source
        self._trainer = trainer

    @property
    def expected_units(self) -> float:
        """The public divisor of an update: declared units × sample rate."""
        privacy = self._config.privacy
        return self._data.declared(privacy.unit) * privacy.sample_rate

    def update(self, request: TrainRequest) -> Adapter:
        """Trains one round; noised in a private mode, exact in mode `none`."""
        if not self._config.is_private:
            return self._trainer.update(self._job(request, noise=None))
        prove_private_step(self._config, self._data.catalogue)
        noise = self._source("noise", request.server_round)
        return self._trainer.update(self._job(request, noise))

    def exact_sum(self, request: SumRequest) -> Floats:
        """The site's sum over its units ``[d]``, before any noise: never released as it is."""
        if request.purpose == "popularity":
            return unit_popularity(self._units, len(self._data.catalogue))
        prove_private_step(self._config, self._data.catalogue)
        return self._trainer.exact_sum(self._job(request, noise=None))

    def measured(self, request: EvaluateRequest, splits: Sequence[UserSplit]) -> UserMetrics:
        """The exact metrics of each user at the request's stage."""
        recommender = loaded_recommender(
            self._config,
            self._data.catalogue,
            request.adapter,
            request.item_prior,
            request.item_to_item,
        )
        return metrics_by_user(recommender, splits, request.stage)

    def _job(self, request: TrainRequest | SumRequest, noise: RandomSource | None) -> TrainingJob:
        return TrainingJob(
            site=self._data.site,
            config=self._config,
            catalogue=self._data.catalogue,
            units=self._units,
            adapter=request.adapter,
            item_prior=request.item_prior,
            server_round=request.server_round,
            expected_units=self.expected_units,
            sampling=self._source("sampling", request.server_round),
            noise=noise,
        )

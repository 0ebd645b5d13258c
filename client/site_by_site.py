"""The trainer of a deployed site: one site by itself, with the Opacus step."""

from __future__ import annotations

from dataclasses import dataclass

from client.local_training import sampled_unit_sum, train_plain, train_private
from client.training_job import Trainer, TrainingJob
from common.adapters import Adapter, adapter_difference, adapter_of
from common.errors import PrivacyError
from common.flat_adapter import Floats, flatten
from common.loaded_recommender import loaded_recommender
from common.recommender import Recommender


@dataclass(frozen=True)
class SiteBySite:
    """Trains on the process's recommender; it keeps nothing between jobs."""

    def update(self, job: TrainingJob) -> Adapter:
        """See `client.training_job.Trainer`.

        Raises:
            PrivacyError: a private job comes without a source of noise.
        """
        recommender = _loaded(job)
        if not job.config.is_private:
            train_plain(
                recommender,
                job.units,
                job.config,
                server_round=job.server_round,
                sampling=job.sampling,
            )
        elif job.noise is None:
            raise PrivacyError(
                f"site {job.site} has no noise for an update in privacy.mode="
                f"{job.config.privacy.mode}; nothing was trained or released"
            )
        else:
            train_private(
                recommender,
                job.units,
                job.config,
                server_round=job.server_round,
                expected_units=job.expected_units,
                sampling=job.sampling,
                noise=job.noise,
            )
        return adapter_difference(adapter_of(recommender), job.adapter)

    def exact_sum(self, job: TrainingJob) -> Floats:
        """See `client.training_job.Trainer`."""
        sums = sampled_unit_sum(
            _loaded(job),
            job.units,
            job.config,
            server_round=job.server_round,
            sampling=job.sampling,
        )
        return flatten(sums)


def _loaded(job: TrainingJob) -> Recommender:
    return loaded_recommender(job.config, job.catalogue, job.adapter, job.item_prior)


SITE_BY_SITE: Trainer = SiteBySite()
"""Equal to every other: an agent made for one is the agent made for all."""

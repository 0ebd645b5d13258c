"""Before a run is trained in stacks: the stacked step must equal the deployed one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from client.site_by_site import SiteBySite
from client.start_up import synthetic_unit
from client.training_job import TrainingJob
from common.adapters import Adapter
from common.config import RunConfig
from common.context import ContextEncoder
from common.errors import SelfTestError
from common.flat_adapter import Floats, flatten
from common.initial_adapter import initial_adapter
from common.interactions import Catalogue
from common.randomness import seeded_source
from simulations.stacked.trainer import StackedTrainer

SITE_UNITS = (3, 1)
LOCAL_STEPS = 2
_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}
_SPREAD = 0.02


@lru_cache(maxsize=8)
def prove_stacked(config: RunConfig, catalogue: Catalogue) -> float:
    """Trains made-up units both ways, with the same draws, and compares.

    The adapter is moved away from its start, where LoRA's B is zero, and up to two local
    steps are made, so that the copies part.

    Args:
        config: the run's configuration.
        catalogue: the public items.

    Returns:
        The largest difference ÷ the largest number, over all tensors.

    Raises:
        SelfTestError: The two differ by more than rounding; nothing must be trained so.
    """
    federation = config.federation
    steps = min(LOCAL_STEPS, federation.local_steps)
    short = config.model_copy(
        update={"federation": federation.model_copy(update={"local_steps": steps})}
    )
    stacked, alone = StackedTrainer(), SiteBySite()
    if config.is_summed:
        got = stacked.exact_sums(_jobs(short, catalogue))
        expected = [alone.exact_sum(job) for job in _jobs(short, catalogue)]
    else:
        got = [flatten(update) for update in stacked.updates(_jobs(short, catalogue))]
        expected = [flatten(alone.update(job)) for job in _jobs(short, catalogue)]
    difference = _largest_difference(got, expected)
    allowed = _TOLERANCE[config.engine.precision]
    if not difference <= allowed:
        raise SelfTestError(
            f"stacked training differs from a site's own step by {difference:.2g} of the largest "
            f"number (allowed: {allowed:g}); run with engine.training=site_by_site and report this"
        )
    return difference


def _jobs(config: RunConfig, catalogue: Catalogue) -> list[TrainingJob]:
    """The same made-up sites each time: their draws come from public seeds."""
    draws = seeded_source(0, "stacked-proof")
    adapter = {
        name: array + (_SPREAD * draws.normal(array.size).reshape(array.shape)).astype(np.float32)
        for name, array in initial_adapter(config).items()
    }
    prior = draws.normal(len(catalogue)).astype(np.float32)
    encoder = ContextEncoder.of(config.model)
    return [
        TrainingJob(
            site=f"synthetic-{site}",
            config=config,
            catalogue=catalogue,
            units=[synthetic_unit(len(catalogue), draws, encoder) for _ in range(count)],
            adapter=adapter,
            item_prior=prior,
            server_round=1,
            expected_units=count * config.privacy.sample_rate,
            sampling=seeded_source(0, "stacked-proof", site, "sampling"),
            noise=seeded_source(0, "stacked-proof", site, "noise"),
        )
        for site, count in enumerate(SITE_UNITS)
    ]


def _largest_difference(got: Sequence[Floats], expected: Sequence[Floats]) -> float:
    """NaN where either holds one."""
    pairs = list(zip(got, expected, strict=True))
    largest = max(float(np.abs(other).max()) for _, other in pairs)
    return max(float(np.abs(one - other).max()) for one, other in pairs) / max(largest, 1e-12)


class ProvedTrainer(StackedTrainer):
    """A `StackedTrainer` that trains a private run only after the proof."""

    def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter]:
        """See `StackedTrainer`; errors as `prove_stacked`."""
        _prove(jobs)
        return super().updates(jobs)

    def exact_sums(self, jobs: Sequence[TrainingJob]) -> list[Floats]:
        """See `StackedTrainer`; errors as `prove_stacked`."""
        _prove(jobs)
        return super().exact_sums(jobs)


def _prove(jobs: Sequence[TrainingJob]) -> None:
    for job in jobs[:1]:  # the jobs of a batch are of one run
        if job.config.is_private:
            prove_stacked(job.config, job.catalogue)

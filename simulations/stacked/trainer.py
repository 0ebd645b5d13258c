"""The batch trainer of a simulation: many sites' training in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from client.training_job import TrainingJob
from common.adapters import Adapter, adapter_difference
from common.config import RunConfig
from common.flat_adapter import Floats, flatten
from common.loaded_recommender import loaded_recommender
from common.recommender import Recommender
from simulations.stacked.limits import Limits, limits_for, memory_budget
from simulations.stacked.stacked_training import (
    gradient_rounds,
    gradient_sums,
    plain_rounds,
    update_rounds,
    update_sums,
)
from simulations.stacked.unit_gradients import Tensors

Computation = Callable[[Recommender, Sequence[TrainingJob], Limits], list[Tensors]]


class StackedTrainer:
    """Trains the sites of a round with one frozen BERT and a stack of their adapters."""

    def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter]:
        """Each site's trained adapter minus the received one; see `client.training_job`."""
        return [
            adapter_difference(_arrays(trained), job.adapter)
            for job, trained in zip(jobs, _computed(jobs, _rounds), strict=True)
        ]

    def exact_sums(self, jobs: Sequence[TrainingJob]) -> list[Floats]:
        """Each site's sum of clipped updates, ``[d]`` float64, without noise."""
        return [flatten({n: t.cpu().numpy() for n, t in s.items()}) for s in _computed(jobs, _sums)]


def _rounds(config: RunConfig) -> Computation:
    if not config.is_private:
        return plain_rounds
    return update_rounds if config.privacy.clipping == "update" else gradient_rounds


def _sums(config: RunConfig) -> Computation:
    return update_sums if config.privacy.clipping == "update" else gradient_sums


def _computed(
    jobs: Sequence[TrainingJob], choose: Callable[[RunConfig], Computation]
) -> list[Tensors]:
    """The result of each job, computed with those that start at the same place."""
    results: dict[int, Tensors] = {}
    waiting = list(enumerate(jobs))
    while waiting:
        first = waiting[0][1]
        alike = [_start_alike(first, job) for _, job in waiting]
        together = [each for each, is_alike in zip(waiting, alike, strict=True) if is_alike]
        waiting = [each for each, is_alike in zip(waiting, alike, strict=True) if not is_alike]
        recommender = loaded_recommender(
            first.config, first.catalogue, first.adapter, first.item_prior
        )
        compute, limits = choose(first.config), _limits(recommender)
        found = compute(recommender, [job for _, job in together], limits)
        results.update(zip((at for at, _ in together), found, strict=True))
    return [results[at] for at in range(len(jobs))]


@lru_cache(maxsize=2)
def _limits(recommender: Recommender) -> Limits:
    """Found once for a model, when it first trains."""
    return limits_for(recommender, memory_budget(recommender.device))


def _start_alike(a: TrainingJob, b: TrainingJob) -> bool:
    """Whether two sites train the same model, over the same items, from the same adapter."""
    if a is b:
        return True
    return (
        a.server_round == b.server_round
        and a.config == b.config
        and a.catalogue.sha256 == b.catalogue.sha256
        and np.array_equal(a.item_prior, b.item_prior, equal_nan=True)
        and a.adapter.keys() == b.adapter.keys()
        and all(np.array_equal(a.adapter[n], b.adapter[n], equal_nan=True) for n in a.adapter)
    )


def _arrays(tensors: Tensors) -> Adapter:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

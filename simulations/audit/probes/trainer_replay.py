"""A run's own trainers on made-up units, again and again with the same randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.site_by_site import SiteBySite
from client.start_up import synthetic_unit
from client.training_job import Trainer, TrainingJob
from common.adapters import Adapter
from common.config import RunConfig
from common.context import ContextEncoder
from common.flat_adapter import Floats
from common.initial_adapter import initial_adapter
from common.interactions import Catalogue
from common.privacy_units import Unit
from common.randomness import RandomSource, secure_source, seeded_source
from common.step_size import learning_rate, lora_learning_rate
from simulations.audit.probes.case import ProbeCase, changed
from simulations.audit.probes.sources import CountingSource, FrozenSource
from simulations.stacked.trainer import StackedTrainer

SEED = 6
UNITS = 4
SPREAD = 0.05
"""The adapter is moved away from its start, where LoRA's B is zero."""
NO_UNIT_RATE = 1e-9
"""A sample rate at which no step has any unit: what leaves is noise alone."""
_BOUNDLESS = 1e9


class Stacked:
    """The batch trainer of a simulation, a site at a time."""

    def update(self, job: TrainingJob) -> Adapter:
        """See `client.training_job.Trainer`."""
        return StackedTrainer().updates([job])[0]

    def exact_sum(self, job: TrainingJob) -> Floats:
        """See `client.training_job.Trainer`."""
        return StackedTrainer().exact_sums([job])[0]


def trainers(config: RunConfig) -> dict[str, Trainer]:
    """Those that a run with this configuration may train with, by `engine.training`."""
    every: dict[str, Trainer] = {"site_by_site": SiteBySite()}
    if config.engine.training == "stacked":
        every["stacked"] = Stacked()
    return every


@dataclass(frozen=True, eq=False)
class Replay:
    """One trainer, one starting point, some made-up units.

    Attributes:
        trainer: the run's own code.
        config: the run's configuration, with what the replay fixes.
        catalogue: the items.
        units: made up; the last one is the unit that is taken out and put back.
        adapter: where each replay starts.
        item_prior: ``[V]``.
    """

    trainer: Trainer
    config: RunConfig
    catalogue: Catalogue
    units: tuple[Unit, ...]
    adapter: Adapter
    item_prior: npt.NDArray[np.float32]

    def exact_sum(self, units: Sequence[Unit], config: RunConfig | None = None) -> Floats:
        """The clipped sum ``[d]`` over `units`, all sampled, without noise."""
        return self.trainer.exact_sum(
            self._job(units, config or self.config, FrozenSource(SEED), None, 1.0)
        )

    def update(
        self,
        units: Sequence[Unit],
        config: RunConfig,
        noise: RandomSource,
        *,
        expected_units: float = 1.0,
    ) -> Adapter:
        """The released update of one round, with its noise."""
        job = self._job(units, config, FrozenSource(SEED), noise, expected_units)
        return self.trainer.update(job)

    def noised_sum(
        self, units: Sequence[Unit], config: RunConfig, noise: RandomSource
    ) -> dict[str, Floats]:
        """The noised sum behind an update of one step, by name and up to its sign."""
        expected = 1e-3  # small, so that the update is far above the adapter's rounding
        update = self.update(units, config, noise, expected_units=expected)
        return {
            name: np.asarray(tensor, np.float64) * expected / _rate(name, config)
            for name, tensor in update.items()
        }

    def unit_norm(self, unit: Unit) -> float:
        """The L2 norm of what this unit would contribute without a bound."""
        loose = changed(self.config, privacy={"max_grad_norm": _BOUNDLESS, "clip_rule": "flat"})
        return float(np.linalg.norm(self.exact_sum([unit], loose)))

    def _job(
        self,
        units: Sequence[Unit],
        config: RunConfig,
        sampling: RandomSource,
        noise: RandomSource | None,
        expected_units: float,
    ) -> TrainingJob:
        return TrainingJob(
            site="audit",
            config=config,
            catalogue=self.catalogue,
            units=list(units),
            adapter=self.adapter,
            item_prior=self.item_prior,
            server_round=1,
            expected_units=expected_units,
            sampling=sampling,
            noise=noise,
        )


def replay_of(case: ProbeCase, trainer: Trainer) -> Replay:
    """A replay of one step of the run's kind, on which every unit takes part.

    σ, C, clipping, model and adapter are the run's; the optimiser is plain SGD, so that the
    sum can be read off the update, and a round of gradients is one step.
    """
    config = case.config
    federation: dict[str, object] = {"local_optimizer": "sgd"}
    if config.privacy.clipping == "gradient":
        federation["local_steps"] = 1
    config = changed(config, privacy={"sample_rate": 1.0}, federation=federation)
    draws, size = seeded_source(SEED, "audit", "units"), len(case.catalogue)
    adapter = {
        name: array + (SPREAD * draws.normal(array.size)).reshape(array.shape).astype(np.float32)
        for name, array in initial_adapter(config).items()
    }
    encoder = ContextEncoder.of(config.model)
    units = tuple(synthetic_unit(size, draws, encoder) for _ in range(UNITS))
    prior = draws.normal(size).astype(np.float32)
    return Replay(trainer, config, case.catalogue, units, adapter, prior)


def noise_alone(replay: Replay, rounds: int) -> list[dict[str, Floats]]:
    """What the mechanism adds in each of `rounds` rounds, by name, in units of C."""
    config = changed(replay.config, privacy={"sample_rate": NO_UNIT_RATE})
    bound = config.privacy.max_grad_norm
    sums = [replay.noised_sum(replay.units, config, secure_source()) for _ in range(rounds)]
    return [{name: tensor / bound for name, tensor in each.items()} for each in sums]


def noised_numbers(replay: Replay, config: RunConfig, units: Sequence[Unit]) -> list[int]:
    """How many noise numbers each call of one round of `config` asked for."""
    source = CountingSource(seed=SEED)
    replay.update(units, config, source)
    return source.asked


def _rate(name: str, config: RunConfig) -> float:
    if config.privacy.clipping == "update":
        return 1.0
    rate = lora_learning_rate if name.startswith("lora.") else learning_rate
    return rate(config, 1)

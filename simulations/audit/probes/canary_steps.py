"""A4 and A5: canary units in the production step, and what each of them can be seen by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from client.sampling import poisson_sample
from common.config import RunConfig
from common.noise_plan import noise_multiplier, steps_per_round
from common.randomness import RandomSource
from simulations.audit.probes.linear_step import Mechanism, observed_steps

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

RAW_NORM = 10.0  # of a canary, in units of C: a missing clip shows


def mechanism_of(config: RunConfig, coordinates: int) -> Mechanism:
    """The run's σ, C and clipping on `coordinates` numbers in two tensors."""
    first = (coordinates + 1) // 2
    return Mechanism(
        (first, coordinates - first),
        noise_multiplier=noise_multiplier(config),
        max_grad_norm=config.privacy.max_grad_norm,
        clip_rule=config.privacy.clip_rule,
    )


def total_steps(config: RunConfig) -> int:
    """Mechanism steps of the whole run."""
    return config.federation.rounds * steps_per_round(config)


def step_scores(
    mechanism: Mechanism, observations: int, source: RandomSource
) -> tuple[Floats, Floats]:
    """A4: s = ⟨noisy sum, g⟩/(C·‖g‖) with the canary in the step, and without it.

    Each step holds one canary per coordinate, or none at all. The canaries' gradients are
    orthogonal and each is clipped by itself, so that one step gives d observations.

    Returns:
        Two float64 arrays ``[≥ observations]``: with and without.
    """
    d = mechanism.coordinates
    canaries = torch.eye(d) * (RAW_NORM * mechanism.max_grad_norm)
    steps = -(-observations // d)
    worlds = [
        observed_steps(mechanism, [units] * steps, source).noised.ravel() / mechanism.max_grad_norm
        for units in (canaries, canaries[:0])
    ]
    return worlds[0], worlds[1]


@dataclass(frozen=True)
class CanaryRun:
    """A5: what a run of steps showed of its canaries.

    Attributes:
        included: ``[m]``, by a fair coin each; a secret of the audit until it scores.
        noisy: ``[T, m]``, each canary's own coordinate of the noisy sums, over C.
        sample_rate: q.
        noise_multiplier: σ.
    """

    included: Booleans
    noisy: Floats
    sample_rate: float
    noise_multiplier: float


def canary_run(
    mechanism: Mechanism, sample_rate: float, steps: int, source: RandomSource
) -> CanaryRun:
    """T production steps over the canaries that are in, each sampled by the production sampler.

    Args:
        mechanism: of the run; it has one Dirac canary per coordinate.
        sample_rate: q.
        steps: T.
        source: of coins, sampling and noise.
    """
    m = mechanism.coordinates
    included = source.uniform(m) < 0.5
    places = np.flatnonzero(included)
    raw = RAW_NORM * mechanism.max_grad_norm

    def sampled() -> Iterator[torch.Tensor]:
        for _ in range(steps):
            chosen = places[poisson_sample(len(places), sample_rate, source)]
            units = torch.zeros(len(chosen), m)
            units[torch.arange(len(chosen)), torch.from_numpy(chosen)] = raw
            yield units

    noised = observed_steps(mechanism, sampled(), source).noised
    return CanaryRun(
        included, noised / mechanism.max_grad_norm, sample_rate, mechanism.noise_multiplier
    )

"""One round of many sites together; each function mirrors one of `client.local_training`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from client.clipping import clip_factors
from client.local_steps import drawn, poisson_steps, shuffled_steps
from client.sampling import poisson_sample
from client.training_job import TrainingJob
from client.unit_updates import noised_sum
from common.adapters import trainable_parameters
from common.errors import PrivacyError
from common.noise_plan import noise_multiplier
from common.privacy_units import Contribution
from common.randomness import RandomSource
from common.recommender import Recommender
from simulations.stacked.limits import Limits
from simulations.stacked.stacked_steps import StackedSteps
from simulations.stacked.unit_gradients import Tensors


def gradient_rounds(
    recommender: Recommender, jobs: Sequence[TrainingJob], limits: Limits
) -> list[Tensors]:
    """`federation.local_steps` steps of DP-SGD at every site.

    Guarantee: that of `client.local_training.train_private` with clipping ``gradient``, for
    each site by itself: its own Poisson sample, fresh noise of its own on its own sum of
    clipped gradients, and a public divisor.

    Args:
        recommender: holds the received adapter; it stays as it is.
        jobs: one per site, all of one round.
        limits: sizes of the parts that a step is computed in.

    Returns:
        For each site its adapter after the round, by name.

    Raises:
        PrivacyError: A job has no source of noise, or no positive divisor.
    """
    config, steps = jobs[0].config, _steps(recommender, jobs, limits)
    deviation = noise_multiplier(config) * config.privacy.max_grad_norm
    sources = [_noise_of(job) for job in jobs]
    streams = [poisson_steps(recommender, job.units, config, job.sampling) for job in jobs]
    for _ in range(config.federation.local_steps):
        totals = steps.clipped_sums([next(stream) for stream in streams])
        for copy, (job, source) in enumerate(zip(jobs, sources, strict=True)):
            own = {name: totals[name][copy] for name in steps.names}
            for name, noised in noised_sum(own, deviation, source).items():
                totals[name][copy] = noised / job.expected_units
        steps.step(totals)
    return _copies(steps.stack.values)


def plain_rounds(
    recommender: Recommender, jobs: Sequence[TrainingJob], limits: Limits
) -> list[Tensors]:
    """`federation.local_steps` ordinary steps at every site (mode `none`): no guarantee.

    Arguments and result as in `gradient_rounds`. Without units an adapter stays as it is.
    """
    config, steps = jobs[0].config, _steps(recommender, jobs, limits)
    streams = [shuffled_steps(recommender, job.units, config, job.sampling) for job in jobs]
    for _ in range(config.federation.local_steps):
        contributions = [next(stream) for stream in streams]
        means = steps.plain_sums(contributions)
        for copy, units in enumerate(contributions):
            for mean in means.values():
                mean[copy] /= max(1, len(units))
        steps.step(means)
    start = {name: p.detach() for name, p in trainable_parameters(recommender).items()}
    after = _copies(steps.stack.values)
    return [copy if job.units else start for job, copy in zip(jobs, after, strict=True)]


def update_rounds(
    recommender: Recommender, jobs: Sequence[TrainingJob], limits: Limits
) -> list[Tensors]:
    """One step of DP-FedAvg at every site: the units' whole updates, clipped and noised.

    Guarantee: that of `client.local_training.train_private` with clipping ``update``, for
    each site by itself. Arguments, result and errors as in `gradient_rounds`.
    """
    config = jobs[0].config
    deviation = noise_multiplier(config) * config.privacy.max_grad_norm
    sources = [_noise_of(job) for job in jobs]
    sums = update_sums(recommender, jobs, limits)
    start = trainable_parameters(recommender)
    adapters = []
    for job, source, total in zip(jobs, sources, sums, strict=True):
        noised = noised_sum(total, deviation, source)
        adapters.append(
            {
                name: value.detach() + (noised[name] / job.expected_units).to(value.dtype)
                for name, value in start.items()
            }
        )
    return adapters


def gradient_sums(
    recommender: Recommender, jobs: Sequence[TrainingJob], limits: Limits
) -> list[Tensors]:
    """For each site −Σ of its sampled units' clipped gradients, float64 by name.

    No noise is in it: it must not leave the site as it is. Arguments as in `gradient_rounds`.
    """
    config, steps = jobs[0].config, _steps(recommender, jobs, limits)
    sampled = [next(poisson_steps(recommender, job.units, config, job.sampling)) for job in jobs]
    totals = steps.clipped_sums(sampled)
    return _copies({name: -total for name, total in totals.items()})


def update_sums(
    recommender: Recommender, jobs: Sequence[TrainingJob], limits: Limits
) -> list[Tensors]:
    """For each site Σ of its sampled units' clipped updates, float64 by name.

    Each unit has a copy of the adapter for its `federation.local_steps` steps; what is
    clipped is how far it moved, as in `client.unit_updates`. No noise is in it: it must not
    leave the site as it is. Arguments as in `gradient_rounds`.
    """
    config, totals = jobs[0].config, [_zeros(recommender) for _ in jobs]
    for owners, chosen in _chunks(_drawn_units(recommender, jobs), limits.units):
        steps = StackedSteps(
            recommender,
            len(chosen),
            config,
            server_round=jobs[0].server_round,
            limits=limits,
        )
        before = {name: value.detach().double() for name, value in steps.stack.values.items()}
        for contributions in zip(*chosen, strict=True):
            steps.step(steps.plain_sums([[each] for each in contributions]))
        after = steps.stack.values
        moved = {name: after[name].detach().double() - before[name] for name in sorted(before)}
        norms = torch.stack([torch.linalg.vector_norm(m.flatten(1), dim=1) for m in moved.values()])
        norm = torch.linalg.vector_norm(norms, dim=0)
        factors = clip_factors(norm, config.privacy.max_grad_norm, config.privacy.clip_rule)
        for copy, owner in enumerate(owners):
            if factors[copy] > 0:
                for name, update in moved.items():
                    totals[owner][name].add_(update[copy] * factors[copy])
    return totals


def _steps(recommender: Recommender, jobs: Sequence[TrainingJob], limits: Limits) -> StackedSteps:
    return StackedSteps(
        recommender,
        len(jobs),
        jobs[0].config,
        server_round=jobs[0].server_round,
        limits=limits,
        streams=[job.sampling for job in jobs],
    )


def _drawn_units(
    recommender: Recommender, jobs: Sequence[TrainingJob]
) -> Iterator[tuple[int, list[Contribution]]]:
    """Each sampled unit's contributions to its local steps, with the place of its site."""
    for owner, job in enumerate(jobs):
        config = job.config
        for i in poisson_sample(len(job.units), config.privacy.sample_rate, job.sampling):
            steps = range(config.federation.local_steps)
            yield owner, [drawn(recommender, job.units[i], config, job.sampling) for _ in steps]


def _chunks(
    units: Iterator[tuple[int, list[Contribution]]], size: int
) -> Iterator[tuple[list[int], list[list[Contribution]]]]:
    owners: list[int] = []
    chosen: list[list[Contribution]] = []
    for owner, contributions in units:
        owners.append(owner)
        chosen.append(contributions)
        if len(owners) == size:
            yield owners, chosen
            owners, chosen = [], []
    if owners:
        yield owners, chosen


def _noise_of(job: TrainingJob) -> RandomSource:
    if job.noise is None:
        raise PrivacyError(f"site {job.site} has no source of noise; a private round needs one")
    if not (math.isfinite(job.expected_units) and job.expected_units > 0):
        raise PrivacyError(
            f"expected_units must be positive and finite, got {job.expected_units} at {job.site}"
        )
    return job.noise


def _zeros(recommender: Recommender) -> Tensors:
    named = trainable_parameters(recommender)
    return {name: torch.zeros_like(p, dtype=torch.float64) for name, p in named.items()}


def _copies(stacked: Tensors | dict[str, torch.nn.Parameter]) -> list[Tensors]:
    """What ``[C, *shape]`` by name holds for each copy."""
    count = len(next(iter(stacked.values())))
    return [
        {name: stacked[name][copy].detach() for name in sorted(stacked)} for copy in range(count)
    ]

"""One site's training in one round: sample, step, and the loop is all on this screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch

from client.local_steps import local_optimizer, losses, plain_steps, poisson_steps
from client.private_step import PrivateStep
from client.sampling import poisson_sample
from client.unit_updates import add_noised_mean, clipped_update_sum
from common.adapters import wire_name
from common.config import RunConfig
from common.flat_adapter import Floats
from common.noise_plan import noise_multiplier
from common.privacy_units import Contribution, Unit
from common.randomness import RandomSource, secure_source
from common.recommender import Recommender


def train_private(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    server_round: int,
    expected_units: float,
    sampling: RandomSource,
    noise: RandomSource,
) -> None:
    """Runs a private round on the recommender's adapter, in place.

    Guarantee: each mechanism step is a Poisson-sampled Gaussian mechanism on a sum over
    units of what `privacy.clipping` names, clipped to `privacy.max_grad_norm` over all
    trainable tensors jointly. ``gradient``: the round is `federation.local_steps` steps on
    the units' gradients. ``update``: it is one step on the units' whole updates, each of
    `federation.local_steps` local steps. Unit: as `units` were made; relation: add or
    remove one unit. An empty sample still releases noise; a non-finite unit counts as zero.

    Args:
        recommender: Holds the adapter that this round starts from.
        units: The site's units.
        config: The run's configuration.
        server_round: From 1; places the round on the learning-rate schedule.
        expected_units: Public divisor, declared units × sample rate.
        sampling: Source of the Poisson sample and of contributions.
        noise: Source of the Gaussian noise.
    """
    recommender.train()
    private_round = _update_step if config.privacy.clipping == "update" else _gradient_steps
    private_round(
        recommender,
        units,
        config,
        server_round=server_round,
        expected_units=expected_units,
        sampling=sampling,
        noise=noise,
    )
    recommender.eval()


def _gradient_steps(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    server_round: int,
    expected_units: float,
    sampling: RandomSource,
    noise: RandomSource,
) -> None:
    """`federation.local_steps` steps of DP-SGD."""
    with PrivateStep(
        recommender,
        local_optimizer(recommender, config, server_round),
        noise_multiplier=noise_multiplier(config),
        max_grad_norm=config.privacy.max_grad_norm,
        clip_rule=config.privacy.clip_rule,
        expected_units=expected_units,
        source=noise,
    ) as private_step:
        steps = poisson_steps(recommender, units, config, sampling)
        for contributions in islice(steps, config.federation.local_steps):
            private_step.step(contributions, lambda batch: losses(recommender, batch, config))


def _update_step(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    server_round: int,
    expected_units: float,
    sampling: RandomSource,
    noise: RandomSource,
) -> None:
    """One step of DP-FedAvg: every sampled unit's `federation.local_steps` steps, clipped."""
    sampled = poisson_sample(len(units), config.privacy.sample_rate, sampling)
    total = clipped_update_sum(
        recommender,
        [units[i] for i in sampled],
        config,
        server_round=server_round,
        sampling=sampling,
    )
    add_noised_mean(
        recommender,
        total,
        deviation=noise_multiplier(config) * config.privacy.max_grad_norm,
        expected_units=expected_units,
        noise=noise,
    )


def sampled_unit_sum(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    server_round: int,
    sampling: RandomSource,
) -> dict[str, Floats]:
    """The site's part of a sum over all sites: Σ of its sampled units' clipped updates.

    A unit's update is its negative gradient, or what `federation.local_steps` local steps on
    its own contributions change (`privacy.clipping`), clipped to `privacy.max_grad_norm` over
    all trainable tensors jointly; adding or removing one unit moves the sum by at most that in
    L2 norm. There is no noise in it yet: it must not leave the site like this, except in mode
    `central`. The recommender's parameters stay as they are.

    Args:
        recommender: Holds the adapter that this round starts from.
        units: The site's units.
        config: The run's configuration.
        server_round: From 1.
        sampling: Source of the Poisson sample and of contributions.

    Returns:
        float64 sums by adapter name.
    """
    recommender.train()
    if config.privacy.clipping == "update":
        sampled = poisson_sample(len(units), config.privacy.sample_rate, sampling)
        chosen = [units[i] for i in sampled]
        sums = clipped_update_sum(
            recommender, chosen, config, server_round=server_round, sampling=sampling
        )
    else:
        contributions = next(poisson_steps(recommender, units, config, sampling))
        sums = _negative_gradient_sum(recommender, contributions, config, server_round)
    recommender.eval()
    return {wire_name(name): total.cpu().numpy() for name, total in sums.items()}


def _negative_gradient_sum(
    recommender: Recommender,
    contributions: Sequence[Contribution],
    config: RunConfig,
    server_round: int,
) -> dict[str, torch.Tensor]:
    with PrivateStep(
        recommender,
        local_optimizer(recommender, config, server_round),
        noise_multiplier=0.0,
        max_grad_norm=config.privacy.max_grad_norm,
        clip_rule=config.privacy.clip_rule,
        expected_units=1.0,
        source=secure_source(),
    ) as private_step:
        sums = private_step.clipped_sum(
            contributions, lambda batch: losses(recommender, batch, config)
        )
    return {name: -total for name, total in sums.items()}


def train_plain(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    server_round: int,
    sampling: RandomSource,
) -> None:
    """Runs `federation.local_steps` ordinary steps (mode `none`): no noise, no guarantee.

    Units are taken in a random order, `federation.units_per_step` at a time, again and
    again until the steps are done. Without units the adapter stays as it is.
    """
    if not units:
        return
    recommender.train()
    optimizer = local_optimizer(recommender, config, server_round)
    steps = plain_steps(recommender, units, config, sampling)
    with _dropout_from(recommender, sampling):
        for batch in islice(steps, config.federation.local_steps):
            optimizer.zero_grad(set_to_none=True)
            recommender.unit_losses(batch).mean().backward()
            optimizer.step()
    recommender.eval()


@contextmanager
def _dropout_from(recommender: Recommender, sampling: RandomSource) -> Iterator[None]:
    """Dropout draws from the site's own stream; torch's generators are as before afterwards."""
    if recommender.config.dropout == 0:
        yield
        return
    device = recommender.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(sampling.integers(2**31, 1)[0]))
        yield

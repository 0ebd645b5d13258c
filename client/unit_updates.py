"""DP-FedAvg per unit: several local steps, and the unit's whole update clipped.

Where `client.private_step` clips a unit's gradient in one step, a unit here runs all local
steps of the round alone, and what is clipped is how far it moved the adapter (McMahan et
al. 2018, with the unit in the place of the client).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

from client.clipping import ClipRule, clip_factors
from client.local_steps import drawn, local_optimizer, losses
from common.adapters import trainable_parameters
from common.config import RunConfig
from common.errors import PrivacyError
from common.privacy_units import Unit
from common.randomness import RandomSource
from common.recommender import Recommender

T = TypeVar("T")
Tensors = dict[str, torch.Tensor]


def clipped_update_sum(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    server_round: int,
    sampling: RandomSource,
) -> Tensors:
    """The sum over `units` of their clipped updates, without noise; it must not be released.

    Guarantee: see `sum_of_clipped_updates`, with C = `privacy.max_grad_norm`. Each unit
    starts at the received adapter with a fresh optimiser and draws a fresh contribution
    for each of its `federation.local_steps` steps. The units are the Poisson sample that
    the caller drew; the caller adds the noise, or hands the sum to a secure aggregation.

    Args:
        recommender: holds the received adapter, and holds it again afterwards.
        units: of this round; may be empty.
        config: the run's configuration.
        server_round: from 1; places the round on the learning-rate schedule.
        sampling: source of the contributions.

    Returns:
        float64 by adapter name, over exactly the trainable tensors.
    """

    def train(unit: Unit) -> None:
        train_unit(recommender, unit, config, server_round=server_round, sampling=sampling)

    privacy = config.privacy
    return sum_of_clipped_updates(
        trainable_parameters(recommender), units, train, privacy.max_grad_norm, privacy.clip_rule
    )


def train_unit(
    recommender: Recommender,
    unit: Unit,
    config: RunConfig,
    *,
    server_round: int,
    sampling: RandomSource,
) -> None:
    """Runs one unit's `federation.local_steps` ordinary steps on the adapter, in place."""
    optimizer = local_optimizer(recommender, config, server_round)
    for _ in range(config.federation.local_steps):
        contribution = drawn(recommender, unit, config, sampling)
        optimizer.zero_grad(set_to_none=True)
        losses(recommender, [contribution], config).sum().backward()
        optimizer.step()


def sum_of_clipped_updates(
    parameters: Mapping[str, torch.nn.Parameter],
    units: Sequence[T],
    train: Callable[[T], None],
    max_grad_norm: float,
    clip_rule: ClipRule = "flat",
) -> Tensors:
    """``Σᵤ clip(after(u) − before)``, where after(u) is where `train` takes the parameters.

    Guarantee: adding or removing one unit moves the sum by at most C in L2 norm over all
    tensors jointly, whatever `train` does with that unit, as long as it does the same with
    the others; so the sum plus N(0, (σC)²) is one Gaussian event of noise multiplier σ (a
    sampled one where the units are a Poisson sample), however many steps `train` makes.

    - A unit that moved nothing counts as zero and is not scaled.
    - A unit with any NaN or infinite entry counts as zero.
    - No units: zeros of the right shapes.
    - Differences, norms and the sum are in float64.
    - The parameters are the same bits afterwards, and no gradient of a unit remains; also
      where `train` raises.

    Args:
        parameters: all trainable tensors by name.
        units: may be empty.
        train: moves the parameters on one unit's data, starting where they are.
        max_grad_norm: C > 0.
        clip_rule: how an update is brought within C (`client.clipping`).

    Raises:
        PrivacyError: C is not positive and finite.
    """
    if not (math.isfinite(max_grad_norm) and max_grad_norm > 0):
        raise PrivacyError(f"max_grad_norm must be positive and finite, got {max_grad_norm}")
    before = {name: p.detach().clone() for name, p in parameters.items()}
    total = {name: torch.zeros_like(b, dtype=torch.float64) for name, b in before.items()}
    for unit in units:
        try:
            train(unit)
            moved = {n: p.detach().double() - before[n].double() for n, p in parameters.items()}
        finally:
            _restore(parameters, before)
        factor = _factor(moved, max_grad_norm, clip_rule)
        if factor > 0:
            for name, update in moved.items():
                total[name].add_(update, alpha=factor)
    return total


def add_noised_mean(
    recommender: Recommender,
    total: Mapping[str, torch.Tensor],
    *,
    deviation: float,
    expected_units: float,
    noise: RandomSource,
) -> None:
    """Adds ``(total + N(0, deviation²)) / expected_units`` to the adapter, in place.

    Sum and noise are in float64 and rounded once to the parameters' precision.

    Args:
        recommender: holds the adapter that `total` was made from.
        total: from `clipped_update_sum`.
        deviation: σC > 0, of the noise on each coordinate of the sum.
        expected_units: public divisor, never the number of units.
        noise: the site's source.

    Raises:
        PrivacyError: `deviation` or `expected_units` is not positive and finite.
    """
    for name, value in (("deviation", deviation), ("expected_units", expected_units)):
        if not (math.isfinite(value) and value > 0):
            raise PrivacyError(f"{name} must be positive and finite, got {value}")
    noised = noised_sum(total, deviation, noise)
    with torch.no_grad():
        for name, parameter in trainable_parameters(recommender).items():
            parameter.add_((noised[name] / expected_units).to(parameter.dtype))


def noised_sum(total: Mapping[str, torch.Tensor], deviation: float, noise: RandomSource) -> Tensors:
    """`total` plus fresh noise of this standard deviation on every entry of every tensor."""
    return {
        name: tensor
        + deviation * torch.from_numpy(noise.normal(tensor.numel())).view_as(tensor).to(tensor)
        for name, tensor in total.items()
    }


def _factor(update: Mapping[str, torch.Tensor], max_grad_norm: float, clip_rule: ClipRule) -> float:
    """What the update is scaled by; 0 where it is not finite."""
    norm = math.hypot(*(float(torch.linalg.vector_norm(t)) for t in update.values()))
    norms = torch.tensor([norm], dtype=torch.float64)
    return float(clip_factors(norms, max_grad_norm, clip_rule)[0])


@torch.no_grad()
def _restore(
    parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor]
) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(before[name])
        parameter.grad = None

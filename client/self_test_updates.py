"""The self-test where whole updates are clipped: the real round, on the real recommender."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from client.local_training import train_private
from client.self_test_statistics import check_noise, check_sampler, noise_steps, twice
from client.self_test_step import SelfTestReport, Tensors, check_tensors
from client.unit_updates import clipped_update_sum, sum_of_clipped_updates, train_unit
from common.adapters import trainable_parameters
from common.config import RunConfig
from common.errors import SelfTestError
from common.noise_plan import noise_multiplier
from common.privacy_units import Unit
from common.randomness import RandomSource, seeded_source
from common.recommender import Recommender

_FREE = 1e30  # a bound that clips nothing


def self_test_updates(
    recommender: Recommender,
    units: Sequence[Unit],
    config: RunConfig,
    *,
    declared_tensors: Sequence[str],
    source: RandomSource,
) -> SelfTestReport:
    """Check the round that clips whole updates; the recommender is left as it was.

    Args:
        recommender: as it will be trained.
        units: at least 2 synthetic units, each of which moves the adapter.
        config: the run's configuration.
        declared_tensors: names of all parameters that a release contains.
        source: the site's randomness, as the run will use it.

    Raises:
        SelfTestError: names the check that failed and by how much.
    """
    if len(units) < 2:
        raise SelfTestError(f"self-test needs at least 2 synthetic units, got {len(units)}")
    started, tensors = time.perf_counter(), check_tensors(recommender, declared_tensors)
    before = _copies(recommender)
    recommender.train()
    try:
        error, smallest = _check_addition(recommender, units, config)
        sensitivity = _check_bound(recommender, units, config, smallest / 2)
        _check_nan(recommender, units, config)
        _check_put_back(recommender, before)
        noise_ratio = twice(lambda: _check_round_noise(recommender, config, source))
    finally:
        _write(recommender, before)
        recommender.eval()
    return SelfTestReport(
        tensors=tensors,
        units=len(units),
        gradient_error=error,
        sensitivity=sensitivity,
        noise_ratio=noise_ratio,
        sample_rate=twice(lambda: check_sampler(config.privacy.sample_rate, source)),
        seconds=time.perf_counter() - started,
        clipping="update",
    )


def _check_addition(
    recommender: Recommender, units: Sequence[Unit], config: RunConfig
) -> tuple[float, float]:
    """Largest gap between a sum and its units' own updates, and the smallest norm of one."""
    free, stream = _bounded(config, _FREE), _draws()
    alone = [_sum(recommender, [unit], free, stream) for unit in units]
    together = _sum(recommender, units, free, _draws())
    added = {name: sum(each[name] for each in alone) - together[name] for name in together}
    norms = [_norm(each) for each in alone]
    error, largest = _norm(added), max(norms)
    if not min(norms) > 0:
        raise SelfTestError(
            f"self-test: a made-up unit's update after {config.federation.local_steps} local steps "
            "is zero or not finite; refusing to train; check federation.local_lr"
        )
    if not error <= 1e-9 * largest:
        raise SelfTestError(
            f"self-test: the updates of units differ from what they add up to by {error:.2e} at "
            f"norms {min(norms):.2e} to {largest:.2e}: something passes from unit to unit; "
            "refusing to train"
        )
    return error, min(norms)


def _check_bound(
    recommender: Recommender, units: Sequence[Unit], config: RunConfig, bound: float
) -> float:
    """Largest move of the clipped sum by one unit ÷ bound, where every unit is clipped."""
    clipped, moves = _bounded(config, bound), []
    for turn in range(len(units)):
        order = [*units[turn:], *units[:turn]]  # the last one's draws disturb no other's
        whole = _sum(recommender, order, clipped, _draws())
        without = _sum(recommender, order[:-1], clipped, _draws())
        moves.append(_norm({name: whole[name] - without[name] for name in whole}))
    sensitivity = max(moves) / bound
    if not sensitivity <= 1 + 1e-5:
        raise SelfTestError(
            f"self-test: one unit moves the clipped sum by {sensitivity:.6f} of the bound C; "
            "refusing to train"
        )
    return sensitivity


def _check_nan(recommender: Recommender, units: Sequence[Unit], config: RunConfig) -> None:
    """A unit whose update is not a number counts as zero."""
    parameters, stream = trainable_parameters(recommender), _draws()

    def last_is_nan(unit: Unit) -> None:
        train_unit(recommender, unit, config, server_round=1, sampling=stream)
        if unit is units[-1]:
            with torch.no_grad():
                next(iter(parameters.values())).view(-1)[0] = math.nan

    bound = config.privacy.max_grad_norm
    poisoned = sum_of_clipped_updates(parameters, units, last_is_nan, bound)
    without = _sum(recommender, units[:-1], config, _draws())
    if not _norm({n: poisoned[n] - without[n] for n in without}) <= 1e-9 * bound:
        raise SelfTestError("self-test: a NaN unit changes the clipped sum; refusing to train")


def _check_put_back(recommender: Recommender, before: Tensors) -> None:
    after = trainable_parameters(recommender)
    changed = sorted(name for name in before if not torch.equal(after[name], before[name]))
    if changed:
        raise SelfTestError(
            f"self-test: a unit's local steps stay in {changed[:3]}; refusing to train"
        )


def _check_round_noise(recommender: Recommender, config: RunConfig, source: RandomSource) -> float:
    """Measured noise standard deviation ÷ σC, from whole rounds without any unit."""
    parameters = trainable_parameters(recommender)
    scale = noise_multiplier(config) * config.privacy.max_grad_norm
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in parameters}
    for _ in range(noise_steps(sum(p.numel() for p in parameters.values()))):
        # From zero, what the round leaves in the adapter is its noise and nothing else.
        _write(recommender, {name: torch.zeros_like(p) for name, p in parameters.items()})
        train_private(
            recommender,
            (),
            config,
            server_round=1,
            expected_units=1.0,
            sampling=source,
            noise=source,
        )
        for name, parameter in parameters.items():
            seen[name].append(parameter.detach().double().flatten() / scale)
    return check_noise({name: torch.stack(draws) for name, draws in seen.items()})


def _sum(
    recommender: Recommender, units: Sequence[Unit], config: RunConfig, draws: RandomSource
) -> Tensors:
    return clipped_update_sum(recommender, units, config, server_round=1, sampling=draws)


def _draws() -> RandomSource:
    """Equal contributions each time; the units are made up, so nobody's privacy is at stake."""
    return seeded_source(0, "self-test", "updates")


def _bounded(config: RunConfig, bound: float) -> RunConfig:
    privacy = config.privacy.model_copy(update={"max_grad_norm": bound})
    return config.model_copy(update={"privacy": privacy})


def _copies(recommender: Recommender) -> Tensors:
    parameters = trainable_parameters(recommender)
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


@torch.no_grad()
def _write(recommender: Recommender, values: Tensors) -> None:
    for name, parameter in trainable_parameters(recommender).items():
        parameter.copy_(values[name])


def _norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))

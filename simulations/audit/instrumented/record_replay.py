"""A2 on the run's own model and trainers: the round on D and on D plus one unit.

Randomness is frozen and noise is taken out, so that whatever differs is due to the unit
(after Re:cord-play, arXiv 2602.17454).
"""

from __future__ import annotations

import numpy as np

from common.adapters import Adapter
from common.flat_adapter import size
from common.initial_adapter import adapter_shapes
from common.noise_plan import round_event
from simulations.audit.finding import Finding
from simulations.audit.instrumented.bounded_step import SLACK
from simulations.audit.instrumented.outcome import Figures, not_testable, outcome
from simulations.audit.probes.case import Budget, ProbeCase, changed
from simulations.audit.probes.sources import CountingSource
from simulations.audit.probes.trainer_replay import (
    NO_UNIT_RATE,
    SEED,
    Replay,
    noised_numbers,
    replay_of,
    trainers,
)

RAW_NORM = 10.0  # of every unit, in units of the bound


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """What one unit changes, in each trainer that the run may use."""
    replays = {name: replay_of(case, each) for name, each in trainers(case.config).items()}
    findings = [_sensitivity(replays), _empty(replays), _non_finite(replays)]
    if case.config.is_summed:
        reason = "In a mode of sums a trainer adds no noise and divides by nothing; the sum's do."
        return [
            *findings,
            *(not_testable("A2", n, reason) for n in ("replay.flow", "replay.steps")),
        ]
    return [*findings, _control_flow(replays), _steps(case)]


def _sensitivity(replays: dict[str, Replay]) -> Finding:
    moves: Figures = {}
    for name, replay in replays.items():
        units = replay.units
        shortest = min(replay.unit_norm(unit) for unit in (units[0], units[-1]))
        bound = min(replay.config.privacy.max_grad_norm, shortest / RAW_NORM)
        tight = changed(replay.config, privacy={"max_grad_norm": bound})
        whole, without = (replay.exact_sum(some, tight) for some in (units, units[:-1]))
        moves[name] = float(np.linalg.norm(whole - without)) / bound
        moves[f"{name}_bound"] = bound
    worst = max(float(moves[name] or 0) for name in replays)
    return outcome(
        "A2",
        "replay.sensitivity",
        holds=bool(worst <= 1 + SLACK),
        reason=f"One made-up unit of raw norm {RAW_NORM:g} C or more moved the clipped sum of the "
        f"run's model by {worst:.6f} C; the claim allows {1 + SLACK:g} C.",
        statistic=moves,
    )


def _empty(replays: dict[str, Replay]) -> Finding:
    """A step without units has the sum 0, whether nobody is there or nobody is sampled."""
    largest: Figures = {}
    for name, replay in replays.items():
        nobody = changed(replay.config, privacy={"sample_rate": NO_UNIT_RATE})
        sums = [replay.exact_sum((), replay.config), replay.exact_sum(replay.units, nobody)]
        largest[name] = float(max(np.abs(each).max() for each in sums))
    return outcome(
        "A2",
        "replay.empty",
        holds=all(value == 0 for value in largest.values()),
        reason="The sum of a step without units is "
        + ("zero in every trainer." if not any(largest.values()) else "not zero."),
        statistic=largest,
    )


def _non_finite(replays: dict[str, Replay]) -> Finding:
    """From an adapter with a NaN in it no unit has a finite gradient: all count as zero."""
    norms: Figures = {}
    for name, replay in replays.items():
        broken: Adapter = {key: array.copy() for key, array in replay.adapter.items()}
        for array in broken.values():
            array.flat[0] = np.nan
        total = Replay(
            replay.trainer, replay.config, replay.catalogue, replay.units, broken, replay.item_prior
        ).exact_sum(replay.units)
        replay.exact_sum(())  # the process's model holds the sound adapter again
        norm = float(np.linalg.norm(total)) / replay.config.privacy.max_grad_norm
        norms[name] = norm if np.isfinite(norm) else None
    bounded = all(value is not None and float(value) <= SLACK for value in norms.values())
    return outcome(
        "A2",
        "replay.non_finite",
        holds=bounded,
        reason="Units without a finite gradient "
        + ("count as zero in every trainer." if bounded else "change the clipped sum."),
        statistic=norms,
    )


def _control_flow(replays: dict[str, Replay]) -> Finding:
    """Where nobody is sampled, D and D plus one unit must release the very same bytes."""
    same: Figures = {}
    for name, replay in replays.items():
        nobody = changed(replay.config, privacy={"sample_rate": NO_UNIT_RATE})
        several = (replay.units, replay.units[:-1], ())
        released = [replay.update(some, nobody, CountingSource(seed=SEED)) for some in several]
        asked = [noised_numbers(replay, replay.config, some) for some in several]
        alike = all(
            np.array_equal(released[0][key], other[key])
            for other in released[1:]
            for key in released[0]
        )
        same[f"{name}_same_release"] = int(alike)
        same[f"{name}_same_draws"] = int(all(each == asked[0] for each in asked))
    holds = all(same.values())
    return outcome(
        "A2",
        "replay.flow",
        holds=holds,
        reason="One unit that is not sampled "
        + ("changes neither divisor, steps nor draws." if holds else "changes what is released."),
        statistic=same,
    )


def _steps(case: ProbeCase) -> Finding:
    """The event that is charged for a round must hold as many steps as were noised."""
    event, config = round_event(case.config), case.config
    charged = 0 if event is None else event.steps
    tensors, numbers = adapter_shapes(config), size(adapter_shapes(config))
    figures: Figures = {"charged": charged, "tensors": len(tensors)}
    for name, trainer in trainers(config).items():
        replay = replay_of(case, trainer)
        whole_round = changed(config, federation={"local_optimizer": "sgd"})
        figures[name] = sum(noised_numbers(replay, whole_round, replay.units)) / numbers
    steps = [float(figures[name] or 0) for name in trainers(config)]
    return outcome(
        "A2",
        "replay.steps",
        holds=all(each == charged for each in steps),
        reason=f"A round noised {max(steps):g} sums, and {charged} are charged for it.",
        statistic=figures,
    )

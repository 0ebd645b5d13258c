"""A2, noise: what leaves where no unit is sampled is noise alone, and it must be σC everywhere."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from common.discrete_noise import masked_sum_input
from common.flat_adapter import flatten, size
from common.initial_adapter import adapter_shapes
from common.randomness import secure_source
from common.secagg.modular import to_signed
from common.sum_plan import update_plan
from simulations.audit.finding import Finding
from simulations.audit.instrumented.outcome import outcome
from simulations.audit.noise_statistics import NoiseDraws, noise_independence, noise_scale
from simulations.audit.probes.case import Budget, ProbeCase
from simulations.audit.probes.trainer_replay import noise_alone, replay_of, trainers

Floats = npt.NDArray[np.float64]

MOST_ROUNDS = 40
MOST_SITES = 4


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """Noise of each trainer, by tensor; in a mode of sums, of the sites' shares."""
    if case.config.is_summed:
        return _shares(case, budget.alpha)
    shapes, findings = adapter_shapes(case.config), []
    rounds = min(max(2, math.ceil(budget.noise_numbers / size(shapes))), MOST_ROUNDS)
    for name, trainer in trainers(case.config).items():
        replay = replay_of(case, trainer)
        sigma = float(replay.config.privacy.noise_multiplier)
        draws = noise_alone(replay, rounds)
        noise = NoiseDraws(np.array([flatten(each) for each in draws]), sigma, "a site's rounds")
        findings += [
            renamed(noise_scale(noise, budget.alpha), name),
            renamed(noise_independence(noise, budget.alpha), name),
            _every_tensor(name, draws, sigma, set(shapes), budget.alpha),
        ]
    return findings


def _every_tensor(
    trainer: str, draws: list[dict[str, Floats]], sigma: float, declared: set[str], alpha: float
) -> Finding:
    """Exactly the declared tensors leave, each with its noise."""
    released = {name for each in draws for name in each}
    undeclared = sorted(released ^ declared)
    findings = {
        name: noise_scale(
            NoiseDraws(np.array([each[name].ravel() for each in draws]), sigma, name),
            alpha / len(released),
        )
        for name in sorted(released)
    }
    failed = [name for name, finding in findings.items() if finding.refutes]
    ratios = [float(finding.statistic["ratio"] or 0) for finding in findings.values()]
    faults = [f"{name} has other noise than σC" for name in failed]
    faults += [f"{name} is not among what is declared and released" for name in undeclared]
    return outcome(
        "A2",
        f"noise.every_tensor.{trainer}",
        holds=not faults,
        reason="; ".join(faults) or f"All {len(released)} declared tensors leave, each with σC.",
        statistic={
            "tensors": len(released),
            "least_ratio": min(ratios),
            "largest_ratio": max(ratios),
            "failed": len(failed),
            "undeclared": len(undeclared),
        },
        alpha=alpha,
    )


def _shares(case: ProbeCase, alpha: float) -> list[Finding]:
    """The production share of noise on a part that is zero, at a few sites."""
    config = case.config
    plan = update_plan(config, size(adapter_shapes(config)))
    zeros = np.zeros(plan.coordinates)
    parts = [masked_sum_input(zeros, plan, secure_source()) for _ in range(MOST_SITES)]
    draws = np.array([to_signed(part, plan.modulus_bits) for part in parts], dtype=np.float64)
    noise = NoiseDraws(draws, float(plan.share_std), "the sites' shares")
    carried = math.sqrt(plan.min_honest) * plan.share_std * plan.grid_step
    owed = plan.noise_multiplier * plan.max_grad_norm
    return [
        renamed(noise_scale(noise, alpha), "shares"),
        renamed(noise_independence(noise, alpha), "shares"),
        outcome(
            "A2",
            "noise.carried",
            holds=carried >= owed,
            reason=f"The shares of {plan.min_honest} honest sites carry {carried / owed:.6f} of "
            "σC together; the claim needs all of it.",
            statistic={"ratio": carried / owed, "min_honest": plan.min_honest},
        ),
    ]


def renamed(finding: Finding, of: str) -> Finding:
    """The same finding under a name of its own."""
    return finding.model_copy(update={"name": f"{finding.name}.{of}"})

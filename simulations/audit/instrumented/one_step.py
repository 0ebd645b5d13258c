"""A4 on the production step: one step with a canary against one without."""

from __future__ import annotations

from simulations.audit.finding import Finding
from simulations.audit.probes.canary_steps import mechanism_of, step_scores, total_steps
from simulations.audit.probes.case import Budget, ProbeCase
from simulations.audit.step_distinguishing import StepObservations, distinguish_steps

CANARIES = 256
"""In one step, each on a coordinate of its own: about the cheapest way to many observations."""


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """The run's σ, C and clipping, canaries of 10 C."""
    mechanism = mechanism_of(case.config, min(budget.canaries, CANARIES))
    source = budget.source("one step")
    with_canary, without = step_scores(mechanism, budget.observations, source)
    observed = StepObservations(
        without=without,
        with_canary=with_canary,
        noise_multiplier=mechanism.noise_multiplier,
        sample_rate=case.config.privacy.sample_rate,
        steps=total_steps(case.config),
        delta=case.config.privacy.target_delta,
    )
    return [distinguish_steps(observed, budget.alpha)]

"""A5 on the production step and sampler: one run of canaries, both bounds."""

from __future__ import annotations

from common.privacy_events import SampledGaussianEvent
from simulations.audit.finding import Finding
from simulations.audit.one_run.canary_audit import CanaryEvidence, audit_canaries
from simulations.audit.one_run.canary_scores import dirac_scores
from simulations.audit.probes.canary_steps import CanaryRun, canary_run, mechanism_of, total_steps
from simulations.audit.probes.case import Budget, ProbeCase

GUESSED = 0.1
"""Share of the canaries guessed "in", and guessed "out"; fixed before anything is drawn."""


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """As many steps as the run has, at its q, σ and C; the canaries are its only units."""
    steps = budget.canary_steps or total_steps(case.config)
    mechanism = mechanism_of(case.config, budget.canaries)
    rate, source = case.config.privacy.sample_rate, budget.source("canaries")
    seen = canary_run(mechanism, rate, steps, source)
    return list(audit_canaries(evidence_of(seen, case.config.privacy.target_delta), budget.alpha))


def evidence_of(seen: CanaryRun, delta: float) -> CanaryEvidence:
    """The canaries' scores, and what was fixed beforehand."""
    steps, canaries = seen.noisy.shape
    guessed = round(GUESSED * canaries)
    return CanaryEvidence(
        scores=dirac_scores(seen.noisy, seen.noise_multiplier, seen.sample_rate),
        included=seen.included,
        guessed_in=guessed,
        guessed_out=guessed,
        history=[SampledGaussianEvent(seen.noise_multiplier, seen.sample_rate, steps)],
        delta=delta,
        view="one step",
        score="log likelihood ratio of Dirac canaries over all steps",
    )

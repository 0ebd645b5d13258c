"""A2 on the securely aggregated sum: real sites, real messages, and the noise of what decodes."""

from __future__ import annotations

import math

import numpy as np

from common.config import AUTO
from simulations.audit.finding import Finding
from simulations.audit.instrumented.noise import variance_p_value, variance_power
from simulations.audit.instrumented.outcome import not_testable, outcome
from simulations.audit.probes.case import Budget, ProbeCase, changed
from simulations.audit.probes.sites import made_up_sites

SITES, ITEMS = 4, 300


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """The popularity sum of a few sites: decoded, less the exact one."""
    if not case.config.is_summed:
        reason = "In mode local nothing is summed under masks; each site's own release is noised."
        return [not_testable("A2", "sum.noise", reason, "the securely aggregated rounds")]
    privacy = {"max_dropouts": AUTO, "min_honest": AUTO, "max_colluders": 1}
    with made_up_sites(
        changed(case.config, privacy=privacy), sites=SITES, users=4 * SITES, items=ITEMS
    ) as sites:
        decoded, exact, plan = sites.summed_popularity()
    shares = SITES if case.config.privacy.mode == "distributed" else 1
    planned = math.sqrt(shares) * plan.share_std * plan.grid_step
    least = plan.noise_multiplier * plan.max_grad_norm
    noise = (decoded - exact) / planned
    ratio = float(np.sqrt(np.mean(noise**2)))
    return [
        outcome(
            "A2",
            "sum.noise",
            view="the securely aggregated rounds",
            holds=variance_p_value(noise) >= budget.alpha,
            reason=f"The decoded sum of {SITES} sites has {ratio:.4f} of its planned noise over "
            f"{len(noise)} numbers; what the claim needs is {least / planned:.4f} of it.",
            statistic={"ratio": ratio, "needed": least / planned, "numbers": len(noise)},
            alpha=budget.alpha,
            power=variance_power(len(noise), budget.alpha),
        )
    ]

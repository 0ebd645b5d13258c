"""A2 on the securely aggregated sum: real sites, real messages, and the noise of what decodes."""

from __future__ import annotations

import math

from common.config import AUTO
from simulations.audit.finding import Finding, View
from simulations.audit.instrumented.noise import renamed
from simulations.audit.instrumented.outcome import not_testable
from simulations.audit.noise_statistics import NoiseDraws, noise_scale
from simulations.audit.probes.case import Budget, ProbeCase, changed
from simulations.audit.probes.sites import made_up_sites

SITES, ITEMS = 4, 300
VIEW: View = "the securely aggregated rounds"


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """The popularity sum of a few sites: decoded, less the exact one."""
    if not case.config.is_summed:
        reason = "In mode local nothing is summed under masks; each site's own release is noised."
        return [not_testable("A2", "noise.scale.sum", reason, VIEW)]
    privacy = {"max_dropouts": AUTO, "min_honest": AUTO, "max_colluders": 1}
    with made_up_sites(
        changed(case.config, privacy=privacy), sites=SITES, users=4 * SITES, items=ITEMS
    ) as sites:
        decoded, exact, plan = sites.summed_popularity()
    shares = SITES if case.config.privacy.mode == "distributed" else 1
    planned = math.sqrt(shares) * plan.share_std * plan.grid_step
    noise = NoiseDraws((decoded - exact)[None], planned, f"the decoded sum of {SITES} sites")
    finding = renamed(noise_scale(noise, budget.alpha), "sum")
    return [finding.model_copy(update={"view": VIEW})]

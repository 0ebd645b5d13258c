"""A3: the functions that a run samples its units with, and the rate that is charged for it."""

from __future__ import annotations

from common.noise_plan import round_event
from simulations.audit.finding import Finding
from simulations.audit.instrumented.outcome import outcome
from simulations.audit.probes.case import Budget, ProbeCase
from simulations.audit.probes.sampler import sampled, sampled_in_rounds
from simulations.audit.sampler_statistics import SamplerTrace, audit_sampler

UNITS, UNITS_IN_ROUNDS = 200, 40
_STEPS_PER_ROUND_STEP = 4  # drawing contributions takes longer than sampling alone


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """The sampler alone, the stream of a round's contributions, and the charged rate."""
    config, rate = case.config, case.config.privacy.sample_rate
    alone = sampled(rate, units=UNITS, steps=budget.sampler_steps, source=budget.source("sampler"))
    steps = budget.sampler_steps // _STEPS_PER_ROUND_STEP
    in_rounds = sampled_in_rounds(
        config, units=UNITS_IN_ROUNDS, steps=steps, source=budget.source("rounds")
    )
    share = budget.alpha / 2
    rounds = audit_sampler(SamplerTrace(in_rounds, rate), share)
    return [
        *audit_sampler(SamplerTrace(alone, rate), share),
        *(each.model_copy(update={"name": f"{each.name}.in_rounds"}) for each in rounds),
        _charged_rate(case),
    ]


def _charged_rate(case: ProbeCase) -> Finding:
    """Which sites a round draws is the server's word: it must not lower the charged rate."""
    event, privacy = round_event(case.config), case.config.privacy
    charged = 0.0 if event is None else event.sample_rate
    drawn = case.config.federation.sites_per_round
    return outcome(
        "A3",
        "sampler.charged_rate",
        holds=charged == privacy.sample_rate,
        reason=f"A unit that is drawn at rate {privacy.sample_rate:g} is charged at rate "
        f"{charged:g}; sites count as always drawn"
        + (f", though a round draws {drawn} of them." if drawn else "."),
        statistic={"charged": charged, "sampled": privacy.sample_rate, "sites_per_round": drawn},
    )

"""Whether the audit's gates leave correct runs alone: the real step and sampler, at ε = 1.

One correct run goes through the gates that draw (A3, A4, both bounds of A5) at α = 5% each, so
that in 200 runs a gate may fail 18 times (it does so more often with probability 0.6%), and
through the exact ones of A2, which may never fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scipy.stats import binom

from common.calibration import calibrate_noise_multiplier
from simulations.audit.finding import CheckName, Finding
from simulations.audit.instrumented import bounded_step, canaries, one_step, sampler
from simulations.audit.probes.case import Budget, ProbeCase, changed, tiny_case

EPSILON, DELTA = 1.0, 1e-5
SAMPLE_RATE, STEPS = 0.05, 200
ALPHA = 0.05
RUNS, MOST_FAILURES = 200, 18
SELF_TESTS = 50
_TOO_MANY = 1e-3
GATES = ("sampler", "step_distinguishing", "canaries.one_run", "canaries.f_dp", "step")
_ROOMS = (sampler, one_step, canaries, bounded_step)


@dataclass(frozen=True)
class GateCount:
    """One gate over many correct runs.

    Attributes:
        gate: its name, or the name that its findings begin with.
        runs: correct runs.
        failures: runs in which it failed.
        above: runs whose ε lower bound passed the claim; None where it gives none.
        largest: the largest ε lower bound.
    """

    gate: str
    runs: int
    failures: int
    above: int | None
    largest: float | None


def correct_case() -> ProbeCase:
    """The smallest run, with σ for (1, 1e-5) over 200 steps at q = 0.05."""
    sigma = calibrate_noise_multiplier(
        target_epsilon=EPSILON, target_delta=DELTA, sample_rate=SAMPLE_RATE, steps=STEPS
    )
    case = tiny_case(noise_multiplier=sigma, sample_rate=SAMPLE_RATE, target_delta=DELTA)
    federation = {"rounds": STEPS, "local_steps": 1}
    return ProbeCase(changed(case.config, federation=federation), case.catalogue)


def audited_once(case: ProbeCase, seed: int | None) -> list[Finding]:
    """One correct run through the gates.

    Args:
        case: of `correct_case`; made once for many runs.
        seed: of the run's draws; None: nobody can repeat it.
    """
    budget = Budget(
        alpha=ALPHA, sampler_steps=1_000, observations=20_000, canaries=2_000, seed=seed
    )
    return [finding for room in _ROOMS for finding in room.run(case, budget)]


def counted(runs: Iterable[list[Finding]]) -> list[GateCount]:
    """Failures by gate."""
    every = list(runs)
    return [_count(gate, every) for gate in GATES]


def _count(gate: str, runs: list[list[Finding]]) -> GateCount:
    own = [[each for each in run if _belongs(each, gate)] for run in runs]
    bounds = [
        max(each.epsilon_lower_bound for each in run if each.epsilon_lower_bound is not None)
        for run in own
        if any(each.epsilon_lower_bound is not None for each in run)
    ]
    return GateCount(
        gate=gate,
        runs=len(runs),
        failures=sum(any(each.refutes for each in run) for run in own),
        above=sum(bound > EPSILON for bound in bounds) if bounds else None,
        largest=max(bounds, default=None),
    )


def _belongs(finding: Finding, gate: str) -> bool:
    return finding.name == gate or finding.name.startswith(f"{gate}.")


@dataclass(frozen=True)
class AlarmCount:
    """One check's false alarms over many self-tests of the build as it is.

    Attributes:
        check: of the suite.
        name: of the finding.
        runs: self-tests in which it was made.
        failures: of them, those in which it failed.
        rate: what it states, per run; 0: exact.
    """

    check: CheckName
    name: str
    runs: int
    failures: int
    rate: float

    @property
    def as_stated(self) -> bool:
        """Whether so many failures, or more, have a probability of at least 1 in 1,000."""
        return self.failures == 0 or bool(
            binom.sf(self.failures - 1, self.runs, self.rate) >= _TOO_MANY
        )


def alarms(runs: Iterable[list[Finding]]) -> list[AlarmCount]:
    """False alarms by finding, in the order in which they are made."""
    by_name: dict[str, list[Finding]] = {}
    for findings in runs:
        for each in findings:
            by_name.setdefault(each.name, []).append(each)
    return [
        AlarmCount(
            check=each[0].check,
            name=name,
            runs=len(each),
            failures=sum(one.refutes for one in each),
            rate=max(one.alpha or 0.0 for one in each),
        )
        for name, each in by_name.items()
    ]

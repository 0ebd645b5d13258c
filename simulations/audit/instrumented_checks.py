"""A2 to A5 of an audit: the production code, driven under the run's own configuration."""

from __future__ import annotations

from functools import partial

from common.errors import DataError
from simulations.audit.check import Check, Gate, Terms
from simulations.audit.evidence import Evidence
from simulations.audit.finding import CheckName, Finding
from simulations.audit.named_checks import audited
from simulations.audit.probes.case import Budget, ProbeCase
from simulations.datasets import load_dataset

MOST_FINDINGS: dict[CheckName, int] = {"A2": 8, "A3": 1, "A4": 1, "A5": 2}
"""Statistical findings that share one check's α."""


def _run(
    name: CheckName, gates: tuple[Gate, ...], evidence: Evidence, terms: Terms
) -> tuple[Finding, ...]:
    """The check on the run's configuration and items; without a claim or items not testable."""
    if not evidence.config.is_private:
        return _untested(name, gates, "The run makes no claim (privacy.mode=none).")
    try:
        catalogue = load_dataset(evidence.config.data).catalogue
    except DataError as fault:
        return _untested(name, gates, f"The run's items are not here: {fault}")
    seed = int.from_bytes(terms.seed, "big")  # committed in the audit log before this
    budget = Budget(alpha=terms.alpha / MOST_FINDINGS[name], seed=seed)
    return tuple(audited(name, ProbeCase(evidence.config, catalogue), budget))


def _untested(name: CheckName, gates: tuple[Gate, ...], reason: str) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            check=name, name=gate.name, view="one step", gate=True, verdict="not_testable",
            reason=reason,
        )
        for gate in gates
    )  # fmt: skip


def _check(name: CheckName, title: str, seconds: float, *gates: Gate) -> Check:
    return Check(
        name=name,
        title=title,
        needs="the run's configuration and items; the production code on made-up units",
        gates=gates,
        seconds=lambda _: seconds,
        run=partial(_run, name, gates),
    )


INSTRUMENTED: tuple[Check, ...] = (
    _check(
        "A2",
        "Record and replay of the real step",
        150.0,
        Gate("step", "one unit moves the clipped sum by at most C, finite or not"),
        Gate("replay", "so it does in the run's own trainers, and nothing else changes"),
        Gate("noise", "every released tensor carries σC, independently", is_statistical=True),
        Gate("sites", "a site's divisor is public"),
        Gate("ledger", "one release is charged once, at its ε"),
    ),
    _check(
        "A3",
        "The sampler",
        60.0,
        Gate(
            "sampler", "units are drawn as charged: independently, at rate q", is_statistical=True
        ),
    ),
    _check(
        "A4",
        "White-box distinguishing of steps",
        60.0,
        Gate("step_distinguishing", "μ of one step is at most 1 ÷ σ", is_statistical=True),
    ),
    _check(
        "A5",
        "Canaries in one run",
        120.0,
        Gate("canaries", "guesses fit the claim, by both bounds", is_statistical=True),
    ),
)

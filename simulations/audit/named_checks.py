"""The instrumented checks by name, on a run's configuration or on the smallest run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import client
from simulations.audit.finding import CheckName, Finding
from simulations.audit.instrumented import (
    bounded_step,
    canaries,
    noise,
    one_step,
    record_replay,
    sampler,
    secure_sum,
    site_releases,
)
from simulations.audit.probes.case import Budget, ProbeCase, tiny_case

Room = Callable[[ProbeCase, Budget], list[Finding]]

ROOMS: dict[str, Room] = {
    "bounded_step": bounded_step.run,
    "record_replay": record_replay.run,
    "noise": noise.run,
    "sampler": sampler.run,
    "one_step": one_step.run,
    "canaries": canaries.run,
    "site_releases": site_releases.run,
    "secure_sum": secure_sum.run,
}
BY_CHECK: dict[CheckName, tuple[str, ...]] = {
    "A2": ("bounded_step", "record_replay", "noise", "site_releases", "secure_sum"),
    "A3": ("sampler",),
    "A4": ("one_step",),
    "A5": ("canaries",),
}
"""Rooms by check of the suite; `site_releases` says something of A1 and A7, too."""

_SELF_TEST = Budget(
    alpha=1e-5, sampler_steps=600, observations=20_000, canaries=1_000, noise_numbers=10_000
)
"""Of the self-test: its bugs are gross, and a correct build must not fail it."""


def audited(check: CheckName, case: ProbeCase, budget: Budget) -> list[Finding]:
    """One check of the suite on a run's configuration.

    Args:
        check: A2 to A5.
        case: the run's configuration and items.
        budget: how much may be drawn.

    Returns:
        The findings; of a run without a claim (mode `none`) there are none.
    """
    if not case.config.is_private:
        return []
    return [finding for room in BY_CHECK[check] for finding in ROOMS[room](case, budget)]


def self_tested(rooms: Iterable[str]) -> list[Finding]:
    """The named rooms on the smallest run, in the mode that they are about."""
    findings = []
    for room in rooms:
        case = tiny_case(mode="distributed" if room == "secure_sum" else "local")
        findings += ROOMS[room](case, _SELF_TEST)
    return findings


def results(rooms: Iterable[str]) -> str:
    """As JSON: where the packages are, and what the rooms found on the smallest run."""
    findings = [finding.model_dump(mode="json") for finding in self_tested(rooms)]
    packages = str(Path(client.__file__).resolve().parents[1])
    return json.dumps({"packages": packages, "findings": findings})

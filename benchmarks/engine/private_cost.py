"""A private step against the same step without DP, within fedrec: target at most 1.10."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.engine.isolated import Outcome
from benchmarks.engine.measurement import Task

# Mode `none` takes units_per_step units a step, the private step all of a site's (q = 1).
WITHOUT_DP = ("privacy.mode=none", "federation.units_per_step=1000")
REPEATS = 2


def measure(
    task_of: Callable[..., Task],
    runner: Callable[[Task], Outcome],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Alternates the default recipe with and without privacy."""
    seconds: dict[str, list[float]] = {"private": [], "plain": []}
    for _ in range(REPEATS):
        for name, overrides in (("private", ()), ("plain", WITHOUT_DP)):
            outcome = runner(task_of("default", "fedrec", *overrides))
            if outcome.measurement is None:
                tell(f"private cost: {outcome.reason}")
                return {"reason": outcome.reason}
            figures = outcome.measurement
            seconds[name].append(figures.seconds / figures.client_rounds)
    ratio = statistics.median(seconds["private"]) / statistics.median(seconds["plain"])
    tell(f"private ÷ plain step: {ratio:.3f} (target: at most 1.10)")
    return {"ratio": ratio, "target": 1.1, "seconds_per_site_step": seconds}

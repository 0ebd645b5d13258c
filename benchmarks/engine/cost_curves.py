"""How fedrec's cost and memory grow with sites, units, adapter rank and layers.

One setting changes at a time, from the default recipe with a tenth of the users sampled. Over
sites the sampled units of a round stay the same: the figure should be flat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.engine.isolated import Outcome
from benchmarks.engine.measurement import Task

BASE = ("privacy.sample_rate=0.1",)
CURVES: dict[str, tuple[str, tuple[float, ...]]] = {
    "sites": ("data.sites", (10, 100, 900)),
    "units": ("privacy.sample_rate", (0.05, 0.2, 0.8)),
    "rank": ("model.lora_rank", (2, 8, 32)),
    "layers": ("model.lora_layers", (1, 2, 4, 6)),
}


def measure(
    task_of: Callable[..., Task],
    runner: Callable[[Task], Outcome],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Measures every point of every curve once."""
    found: dict[str, Any] = {}
    for curve, (key, values) in CURVES.items():
        found[curve] = points = []
        for value in values:
            outcome = runner(task_of("default", "fedrec", *BASE, f"{key}={value}"))
            points.append(_point(key, value, outcome))
            tell(f"{curve}: {points[-1]}")
    return found


def _point(key: str, value: float, outcome: Outcome) -> dict[str, Any]:
    figures = outcome.measurement
    if figures is None:
        return {key: value, "reason": outcome.reason}
    rounds = max(len(figures.samples), 1)
    return {
        key: value,
        "seconds_per_round": figures.seconds / rounds,
        "processor_seconds_per_round": figures.extra["cpu_seconds"] / rounds,
        "units_per_round": figures.extra["units"] / rounds,
        "peak_bytes": outcome.peak_bytes_bound,
    }

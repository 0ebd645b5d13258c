"""What the search tries: settings laid over those of `plan.py`, each under a name.

They are in the order in which they were tried: later points follow from what earlier ones
showed on validation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.adapter_gain.plan import Cell

_FULL = ("privacy.negatives_per_unit=0", "model.lora_rows=4")
_WIDE = ("model.lora_rank=16", "model.lora_layers=2")
_BOTH_SIDES = (
    "model.history_gradient=true",
    "federation.units_per_step=2",
    "model.lora_rank=16",
    "model.lora_rows=4",
)
PLAIN: Mapping[str, tuple[str, ...]] = {
    "first": (),
    "full-wide": (*_FULL, *_WIDE, "federation.local_lr=0.01"),
    "both-sides": _BOTH_SIDES,
}
PRIVATE: Mapping[str, tuple[str, ...]] = {
    "first": (),
    "both-sides": (
        "model.history_gradient=true",
        "privacy.sample_rate=0.5",
        "federation.rounds=1",
        "federation.local_lr=10.0",
    ),
}
POINTS = tuple(dict.fromkeys([*PLAIN, *PRIVATE]))


@dataclass(frozen=True)
class Trial:
    """One point of the search, on one data set and at one ε.

    Attributes:
        cell: what it is laid over.
        point: its name in `PLAIN` or `PRIVATE`.
    """

    cell: Cell
    point: str

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return f"{self.cell.name}-{self.point}"

    @property
    def settings(self) -> tuple[str, ...]:
        """What is laid over the cell's own, as ``--set`` takes it."""
        return (PLAIN if math.isinf(self.cell.epsilon) else PRIVATE)[self.point]


def trials(
    datasets: Iterable[str], epsilons: Iterable[float], points: Iterable[str] = POINTS
) -> Iterator[Trial]:
    """Every one of `points` of LoRA alone, seed 0, on each data set at each ε."""
    asked = set(points)
    for epsilon in epsilons:
        for point in PLAIN if math.isinf(epsilon) else PRIVATE:
            for dataset in datasets if point in asked else ():
                yield Trial(Cell(dataset, epsilon, "lora", 0), point)

"""The runs of the search: every point of LoRA alone, on each data set and at each ε."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks.adapter_gain.plan import Cell
from benchmarks.adapter_gain.points import PLAIN, POINTS, PRIVATE, settings_of
from common.config import RunConfig


@dataclass(frozen=True)
class Trial:
    """One point, on one data set and at one ε.

    Attributes:
        cell: data set, ε and seed.
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
        """What is laid over the first settings."""
        return settings_of(self.point, self.cell.epsilon)

    def config(self) -> RunConfig:
        """The run's whole configuration, whatever was chosen since."""
        return self.cell.config(point=self.point)


def trials(
    datasets: Iterable[str], epsilons: Iterable[float], points: Iterable[str] = POINTS
) -> Iterator[Trial]:
    """Every one of `points`, seed 0, on each data set at each ε."""
    asked = set(points)
    for epsilon in epsilons:
        for point in PLAIN if math.isinf(epsilon) else PRIVATE:
            for dataset in datasets if point in asked else ():
                yield Trial(Cell(dataset, epsilon, "lora", 0), point)

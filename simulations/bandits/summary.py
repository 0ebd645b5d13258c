"""Means and paired differences from greedy over the reported worlds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.serving.exploration import NAMES, PolicyName
from simulations.bandits.choosing import Setting
from simulations.bandits.measuring import Played
from simulations.evaluation.intervals import Interval, mean_interval, paired_difference

FIGURES = {
    "reward": "items taken",
    "regret": "regret",
    "coverage": "shown of the catalogue",
    "taken_coverage": "taken of the catalogue",
    "new_shown": "places for new items",
    "new_taken": "new items taken",
    "first_lists": "taken from a first list",
    "late_first_lists": "the same, later half of users",
}


@dataclass(frozen=True)
class Summary:
    """One policy over all reported worlds.

    Attributes:
        setting: chosen on validation.
        means: by figure, with 95% bootstrap intervals over the worlds.
        differences: from greedy in the same worlds; empty for greedy.
        regret: ``[R]`` mean regret up to the end of each round.
    """

    setting: Setting
    means: dict[str, Interval]
    differences: dict[str, Interval]
    regret: tuple[float, ...]

    @property
    def name(self) -> PolicyName:
        """Of the policy."""
        return self.setting.policy.name

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def summarise(played: Sequence[Played]) -> list[Summary]:
    """A summary for each policy, greedy first; all have played the same worlds."""
    by_policy = {
        name: sorted((p for p in played if p.setting.policy.name == name), key=lambda p: p.seed)
        for name in NAMES
    }
    greedy = by_policy["greedy"]
    return [
        Summary(
            setting=mine[0].setting,
            means={figure: mean_interval(_values(mine, figure)) for figure in FIGURES},
            differences={
                figure: paired_difference(_values(mine, figure), _values(greedy, figure))
                for figure in FIGURES
            }
            if name != "greedy"
            else {},
            regret=tuple(float(each) for each in _regret(mine).mean(axis=0)),
        )
        for name, mine in by_policy.items()
        if mine
    ]


def _values(played: Sequence[Played], figure: str) -> NDArray[np.float64]:
    if figure == "regret":
        return _regret(played)[:, -1]
    return np.array([getattr(each.outcome, figure) for each in played], dtype=np.float64)


def _regret(played: Sequence[Played]) -> NDArray[np.float64]:
    """``[worlds, R]``."""
    return np.array([np.subtract(p.oracle, p.outcome.curve) for p in played], dtype=np.float64)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.sweeps.planning import PlannedRun, plan
from simulations.sweeps.question import Dimension, Question

Planned = Callable[..., tuple[Question, list[PlannedRun]]]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """Plan a sweep of a scenario text: values of the rounds, and seeds."""

    def make(
        rounds: tuple[str, ...] = ("1", "2"), seeds: int = 2, text: str = "[data]\nsites = 3\n"
    ) -> tuple[Question, list[PlannedRun]]:
        scenario = tmp_path / "scenario.toml"
        scenario.write_text(text, encoding="utf-8")
        question = Question("toy", (), (Dimension("federation.rounds", rounds),), seeds)
        return question, plan(question, scenario)

    return make

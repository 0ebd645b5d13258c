from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.metrics_plan import stages_due
from simulations.scenario_files import SEARCH_FOLDER, find_scenario
from simulations.search.planning import own_settings, plan_search
from simulations.search.question import read_question
from simulations.sweeps.planning import PlannedRun
from tests.simulations.search.conftest import AXIS, asked

WriteScenario = Callable[[str], Path]
BUDGETS = """
[federation]
local_lr = 4.0
rounds = 3
[[budget]]
epsilon_at_most = 2
federation.local_lr = 0.5
federation.rounds = 1
"""


def lrs(runs: list[PlannedRun]) -> dict[str, tuple[float, int]]:
    return {
        run.point: (run.config.federation.local_lr, run.config.federation.rounds) for run in runs
    }


def faults_of(scenario: Path, text: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        plan_search(replace(asked(text), overrides=overrides), scenario)
    return caught.value.faults


def test_one_axis_at_a_time_around_the_scenarios_own(write_scenario: WriteScenario) -> None:
    text = AXIS + "[[axis]]\npoints = [{federation.rounds = 2, federation.local_lr = 3.0}]\n"
    runs = plan_search(asked(text, "seeds = 2"), write_scenario(BUDGETS))
    assert [(run.point, run.seed) for run in runs[:3]] == [
        ("own", 0), ("own", 1), ("federation.local_lr=0.5", 0)
    ]  # fmt: skip
    assert lrs(runs) == {
        "own": (4.0, 3),
        "federation.local_lr=0.5": (0.5, 3),
        "federation.local_lr=2.0": (2.0, 3),
        "federation.rounds=2,federation.local_lr=3.0": (3.0, 2),
    }
    assert [run.config.data.seed for run in runs[:2]] == [0, 1]


def test_axes_lie_over_the_budgets_own_settings(write_scenario: WriteScenario) -> None:
    scenario = write_scenario(BUDGETS)
    search = replace(asked(), overrides=("privacy.target_epsilon=1",))
    # At this budget 0.5 is the scenario's own value, so that it is no point beside it.
    assert lrs(plan_search(search, scenario)) == {
        "own": (0.5, 1),
        "federation.local_lr=2.0": (2.0, 1),
    }
    assert own_settings(search, scenario) == {"federation.local_lr": "0.5"}
    by_set = asked("[set]\nprivacy.target_epsilon = 1.5\n" + AXIS)
    assert lrs(plan_search(by_set, scenario))["own"] == (0.5, 1)


def test_what_is_set_moves_the_middle_and_an_axis_lies_over_it(
    write_scenario: WriteScenario,
) -> None:
    search = asked("[set]\nfederation.local_lr = 8.0\nfederation.rounds = 7\n" + AXIS)
    runs = plan_search(replace(search, overrides=("federation.local_lr=9.0",)), write_scenario(""))
    assert list(lrs(runs).values()) == [(9.0, 7), (0.5, 7), (2.0, 7)]


def test_a_grid_is_every_combination(write_scenario: WriteScenario) -> None:
    text = AXIS + '[[axis]]\nkey = "federation.rounds"\nvalues = [1, 2, 3]\n'
    runs = plan_search(asked(text, "grid = true"), write_scenario(BUDGETS))
    assert sorted(lrs(runs).values()) == [
        (0.5, 1), (0.5, 2), (0.5, 3), (2.0, 1), (2.0, 2), (2.0, 3)
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "[evaluation]\ncompanions = 'frozen'\nevery = 1\n"])
def test_no_run_looks_at_test(write_scenario: WriteScenario, text: str) -> None:
    for run in plan_search(asked(), write_scenario(text)):
        evaluation = run.config.evaluation
        assert (evaluation.lab, evaluation.companions, evaluation.metrics) == (False, "", "none")
        rounds = range(run.config.federation.rounds + 1)
        assert not any(stages_due(number, run.config) for number in rounds)


@pytest.mark.parametrize(
    ("scenario", "text", "said"),
    [
        ("", AXIS.replace("2.0", "0.5"), "are one and the same configuration"),
        ("", AXIS.replace("[0.5, 2.0]", "[2, 2.0]"), "are one and the same configuration"),
        ("", AXIS.replace("0.5", "-0.5"), "local_lr must be a number above 0, got -0.5 in search"),
        ("", AXIS.replace("[0.5, 2.0]", "[4.7]"), "search toy has one point only, own"),
        ("[evaluation]\nmetrics = 'private'", AXIS, "evaluation.metrics must be exact in a sear"),
        (
            "[privacy]\nmode = 'none'\n[federation]\nweighting = 'fair'\nrounds = 3",
            AXIS,
            "federation.weighting must be equal or declared in a search, got fair",
        ),
        ("[data]\nsplit = 'time_cut'", AXIS, "data.split=time_cut has no times in a search"),
        ("[data]\nsites_folder = 'x'", AXIS, "data.sites_folder must be empty in a sweep or sear"),
    ],
)
def test_what_cannot_be_searched_is_told_once(
    write_scenario: WriteScenario, scenario: str, text: str, said: str
) -> None:
    (fault,) = faults_of(write_scenario(scenario), text)
    assert said in fault


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.lab=true", "a search looks at validation alone"),
        ("evaluation.metrics=private", "a search looks at validation alone"),
        ("federation.round=3", "did you mean federation.rounds?"),
        ("rounds", "is not of the form section.key=value"),
    ],
)
def test_what_cannot_be_set(write_scenario: WriteScenario, override: str, said: str) -> None:
    (fault,) = faults_of(write_scenario(""), AXIS, override)
    assert said in fault


@pytest.mark.parametrize(("name", "most"), [("federated", 12), ("distributed", 14)])
def test_the_bundled_searches_can_be_run(name: str, most: int) -> None:
    text = (SEARCH_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    search = read_question(name, tomllib.loads(text))
    runs = plan_search(search, find_scenario(search.scenario))
    assert 2 < len({run.point for run in runs}) <= most
    assert len(runs) == search.seeds * len({run.point for run in runs})

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import ConfigError
from simulations.sweeps.planning import PlannedRun, plan, point_name
from simulations.sweeps.question import Dimension, Question, read_dimensions

WriteScenario = Callable[[str], Path]


def planned_for(
    scenario: Path, *texts: str, overrides: tuple[str, ...] = (), seeds: int = 1
) -> list[PlannedRun]:
    faults: list[str] = []
    dimensions = tuple(read_dimensions(texts, faults))
    if faults:
        raise ConfigError(faults)
    return plan(Question("toy", overrides, dimensions, seeds), scenario)


def faults_of(scenario: Path, *texts: str, **options: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        planned_for(scenario, *texts, **options)  # type: ignore[arg-type]
    return caught.value.faults


def test_the_product_of_all_values_times_all_seeds(write_scenario: WriteScenario) -> None:
    runs = planned_for(
        write_scenario("[data]\nseed = 10\n[federation]\nseed = 5\n"),
        "federation.rounds = 1, 2",
        "model.head_items=0,5,9",
        overrides=("data.sites=4",),
        seeds=3,
    )
    assert len(runs) == 2 * 3 * 3
    assert len({run.path for run in runs}) == len({run.config.sha256() for run in runs}) == 18
    last = runs[-1]
    assert last.path == "points/federation.rounds=2,model.head_items=9/seed-2"
    config = last.config
    assert (config.federation.rounds, config.model.head_items, config.data.sites) == (2, 9, 4)
    assert (config.data.seed, config.federation.seed) == (12, 7)
    assert not any(run.config.privacy.insecure_seeded_noise for run in runs)


def test_without_values_there_is_one_point(write_scenario: WriteScenario) -> None:
    runs = planned_for(write_scenario(""), seeds=2)
    assert [run.path for run in runs] == ["points/all/seed-0", "points/all/seed-1"]


@pytest.mark.parametrize("infinite", ["inf", "+inf", "Infinity", "INF"])
def test_an_infinite_budget_is_the_scenario_without_privacy(
    write_scenario: WriteScenario, infinite: str
) -> None:
    scenario = write_scenario(
        "[federation]\nrounds = 4\n"
        "[[budget]]\nepsilon_at_most = 2\nfederation.rounds = 1\n"
        "[[budget]]\nno_privacy = true\nfederation.rounds = 9\n"
    )
    runs = planned_for(
        scenario, f"privacy.target_epsilon=1,8,{infinite}", overrides=("privacy.mode=local",)
    )
    found = [(run.config.privacy.mode, run.config.federation.rounds) for run in runs]
    assert found == [("local", 1), ("local", 4), ("none", 9)]


def test_modes_are_one_point_without_privacy(write_scenario: WriteScenario) -> None:
    runs = planned_for(
        write_scenario(""), "privacy.mode=local,distributed", "privacy.target_epsilon=3,inf"
    )
    assert [run.config.privacy.mode for run in runs] == ["local", "none", "distributed"]


def test_all_faults_of_all_points_each_once(write_scenario: WriteScenario) -> None:
    faults = faults_of(
        write_scenario("[data]\nsites = 0\n"),
        "federation.rounds=1,0",
        "privacy.mode=local,locl",
        "data.seed=1,2",
        overrides=("federation.rounds=3",),
        seeds=2,
    )
    expected = [
        "federation.rounds is given by --set and by --sweep",
        "--sweep data.seed and --seeds 2 both change data.seed",
        "data.sites must be a whole number of at least 1, got 0 in scenario.toml",
        "federation.rounds must be a whole number of at least 1, got 0 in --set",
        'privacy.mode must be one of none, local, distributed, central, got "locl"',
    ]
    for said in expected:
        assert [said in fault for fault in faults].count(True) == 1, said
    assert len(faults) == len(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("federation.rounds", "is not of the form section.key=V1,V2"),
        ("rounds=1,2", "is not of the form section.key=V1,V2"),
        ("federation.rounds=1,,2", "is not of the form section.key=V1,V2"),
        ("federation.rounds=", "is not of the form section.key=V1,V2"),
        ("federation.round=1,2", "unknown key federation.round in --sweep; did you mean federat"),
        ("federation.rounds=1,2,1", "has the value 1 twice"),
    ],
)
def test_a_malformed_dimension_is_one_fault(
    write_scenario: WriteScenario, text: str, said: str
) -> None:
    (fault,) = faults_of(write_scenario(""), text)
    assert said in fault


def test_a_key_is_swept_once(write_scenario: WriteScenario) -> None:
    (fault,) = faults_of(write_scenario(""), "federation.rounds=1", "federation.rounds=2")
    assert fault.startswith("--sweep federation.rounds is given twice")


def test_two_spellings_of_one_value_are_told(write_scenario: WriteScenario) -> None:
    (fault,) = faults_of(write_scenario(""), "privacy.target_epsilon=1,1.0")
    assert "target_epsilon=1 and privacy.target_epsilon=1.0 are one and the same" in fault


def test_lasting_ledgers_are_no_place_for_a_sweep(write_scenario: WriteScenario) -> None:
    (fault,) = faults_of(
        write_scenario(""), "federation.rounds=1,2", overrides=("data.sites_folder=sites",)
    )
    assert fault.startswith("data.sites_folder must be empty in a sweep or search, got sites")


def test_names_are_folders_and_differ() -> None:
    assert point_name({"data.dataset": "a/b c"}) != point_name({"data.dataset": "a/b-c"})
    for settings in ({"data.dataset": "../../x"}, {"data.dataset": "x" * 400}, {"a.b": ".."}):
        name = point_name(settings)
        assert "/" not in name
        assert len(name) < 150
        assert name not in (".", "..")


def test_a_question_without_dimensions_has_none() -> None:
    assert read_dimensions([], []) == []
    assert read_dimensions(["data.sites=2, 3"], []) == [Dimension("data.sites", ("2", "3"))]

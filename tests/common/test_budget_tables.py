from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.config_loading import config_to_toml, load_config
from common.errors import ConfigError

WriteScenario = Callable[[str], Path]

SCENARIO = """
[federation]
rounds = 4
local_lr = 4.7
[[budget]]
epsilon_at_most = 1.5
federation.rounds = 1
model.head_items = 0
[[budget]]
epsilon_at_most = 4.5
federation.rounds = 2
[[budget]]
no_privacy = true
federation.rounds = 24
privacy.sample_rate = 0.5
"""


@pytest.mark.parametrize(
    ("overrides", "rounds", "head_items"),
    [
        ([], 4, 400),
        (["privacy.target_epsilon=8"], 4, 400),
        (["privacy.target_epsilon=4.5"], 2, 400),
        (["privacy.target_epsilon=1.6"], 2, 400),
        (["privacy.target_epsilon=1.5"], 1, 0),
        (["privacy.target_epsilon=1", "federation.rounds=7"], 7, 0),
        (["privacy.mode=none", "privacy.target_epsilon=1"], 24, 400),
        (["privacy.mode=none", "privacy.target_epsilon=inf"], 24, 400),
    ],
)
def test_the_tightest_fitting_table_lies_between_scenario_and_set(
    write_scenario: WriteScenario, overrides: list[str], rounds: int, head_items: int
) -> None:
    config = load_config(scenario=write_scenario(SCENARIO), overrides=overrides)
    assert (config.federation.rounds, config.model.head_items) == (rounds, head_items)
    assert config.federation.local_lr == 4.7
    assert config.privacy.sample_rate == (0.5 if config.privacy.mode == "none" else 1.0)


def test_the_scenarios_own_epsilon_chooses_too(write_scenario: WriteScenario) -> None:
    path = write_scenario(SCENARIO + "[privacy]\ntarget_epsilon = 3\n")
    assert load_config(scenario=path).federation.rounds == 2
    flat = {"privacy.target_epsilon": 1.0, "model.head_items": 5}
    config = load_config(scenario=path, flat=flat)
    assert (config.federation.rounds, config.model.head_items) == (1, 5)


def test_the_resolved_configuration_has_plain_values_only(
    write_scenario: WriteScenario, tmp_path: Path
) -> None:
    config = load_config(scenario=write_scenario(SCENARIO), overrides=["privacy.target_epsilon=1"])
    text = config_to_toml(config)
    assert "budget" not in text
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    assert load_config(scenario=tmp_path / "config.toml") == config


def test_all_faults_of_all_tables_at_once(write_scenario: WriteScenario) -> None:
    path = write_scenario(
        "[[budget]]\nepsilon_at_most = inf\n"
        "[[budget]]\nepsilon_at_most = 'few'\n"
        "[[budget]]\nepsilon_at_most = true\n"
        "[[budget]]\nfederation.rounds = 1\n"
        "[[budget]]\nepsilon_at_most = 2\nno_privacy = true\n"
        "[[budget]]\nno_privacy = false\n"
        "[[budget]]\nepsilon_at_most = 3\nfederation.round = 1\nrounds = 2\n"
        "privacy.target_epsilon = 1\nfederation.local_lr = 'big'\ndata.sites = 0\n"
        "[[budget]]\nepsilon_at_most = 5\n"
        "[[budget]]\nepsilon_at_most = 5.0\n"
        "[[budget]]\nno_privacy = true\n"
        "[[budget]]\nno_privacy = true\n"
        "[model]\ndropout = 2\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(scenario=path)
    expected = [
        ("epsilon_at_most must be a number above 0, finite, got inf in [[budget]] 1 of", "no_priv"),
        ('epsilon_at_most must be a number above 0, finite, got "few" in [[budget]] 2', "no_priv"),
        ("epsilon_at_most must be a number above 0, finite, got true in [[budget]] 3", "no_priv"),
        ("[[budget]] 4 of scenario.toml must hold epsilon_at_most or", "got neither; say for"),
        ("[[budget]] 5 of scenario.toml must hold epsilon_at_most or", "got both; say for"),
        ("no_privacy must be true, got false in [[budget]] 6", "give epsilon_at_most"),
        ("unknown key federation.round (= 1) in [[budget]] 7", "did you mean federation.rounds?"),
        ("unknown key rounds (= 2) in [[budget]] 7", "did you mean federation.rounds?"),
        ("privacy.target_epsilon (= 1) cannot stand in [[budget]] 7", "under [privacy]"),
        ('federation.local_lr must be a number above 0, got "big" in [[budget]] 7', "4.7"),
        ("data.sites must be a whole number of at least 1, got 0 in [[budget]] 7", "10"),
        ("epsilon_at_most = 5 in [[budget]] 9", "put them into one"),
        ("no_privacy = true in [[budget]] 11", "put them into one"),
        ("model.dropout must be", "0.0"),
    ]
    for what, remedy in expected:
        matches = [what in fault and remedy in fault for fault in caught.value.faults]
        assert matches.count(True) == 1, what
    assert len(caught.value.faults) == len(expected)
    assert not any("\n" in fault for fault in caught.value.faults)


@pytest.mark.parametrize("text", ["[budget]\nepsilon_at_most = 3\n", "budget = 3\n"])
def test_what_is_no_array_of_tables_is_one_fault(write_scenario: WriteScenario, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(scenario=write_scenario(text))
    (fault,) = caught.value.faults
    assert "begin each with [[budget]]" in fault


def test_a_wrong_epsilon_is_told_alone(write_scenario: WriteScenario) -> None:
    path = write_scenario("[[budget]]\nepsilon_at_most = 9\nmodel.dropout = 0.5\n")
    with pytest.raises(ConfigError) as caught:
        load_config(scenario=path, overrides=["privacy.target_epsilon=0"])
    (fault,) = caught.value.faults
    assert fault.startswith("privacy.target_epsilon must be a number above 0, got 0")


def test_a_table_that_does_not_fit_the_rest_is_told(write_scenario: WriteScenario) -> None:
    path = write_scenario("[[budget]]\nepsilon_at_most = 9\nmodel.dropout = 0.5\n")
    with pytest.raises(ConfigError, match=r"model\.dropout must be 0 in a private mode"):
        load_config(scenario=path)
    assert load_config(scenario=path, overrides=["privacy.target_epsilon=10"])

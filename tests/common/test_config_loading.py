from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.config import RunConfig
from common.config_loading import config_to_toml, load_config
from common.errors import ConfigError

WriteScenario = Callable[[str], Path]


def faults_of(**sources: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(**sources)  # type: ignore[arg-type]
    return caught.value.faults


def test_nothing_given_is_the_default() -> None:
    assert load_config() == RunConfig()


def test_later_sources_win(write_scenario: WriteScenario) -> None:
    scenario = write_scenario("[data]\nsites = 3\nseed = 7\n[federation]\nrounds = 4\n")
    config = load_config(
        scenario=scenario,
        flat={"data.sites": 4, "federation.rounds": 5},
        overrides=["data.sites=5", "data.sites=6"],
    )
    assert (config.data.sites, config.data.seed, config.federation.rounds) == (6, 7, 5)


def test_all_faults_of_all_sources_at_once(write_scenario: WriteScenario) -> None:
    scenario = write_scenario(
        "seed = 1\n[privacy]\nepsilon = 3\ntarget_epsilon = 0\n[privat]\nmode = 'none'\n"
        "[model]\ndropout = 0.3\n"
    )
    faults = faults_of(
        scenario=scenario,
        flat={"engine.kind": "gpu"},
        overrides=["privacy.noise_multiplier=-1", "data.sites=0", "federation.rounds=1O", "x"],
    )
    expected = [
        ("seed = 1 stands outside any section in scenario.toml", "put it under one of"),
        ("unknown key privacy.epsilon (= 3) in scenario.toml", "did you mean privacy.target_eps"),
        ("privacy.target_epsilon must be a number above 0, got 0 in scenario.toml", "8.0"),
        ("unknown section [privat] in scenario.toml", "did you mean [privacy]?"),
        ('engine.kind must be one of inprocess, flower, got "gpu" in the run config', "inprocess"),
        ("privacy.noise_multiplier must be a number above 0 or auto, got -1 in --set", "auto"),
        ("data.sites must be a whole number of at least 1, got 0 in --set", "10"),
        ('federation.rounds must be a whole number of at least 1, got "1O" in --set', "default 4"),
        ('--set "x" is not of the form section.key=value', "write for instance"),
        ("model.dropout must be 0 in a private mode, got 0.3", "set model.dropout=0"),
    ]
    for what, remedy in expected:
        assert [what in fault and remedy in fault for fault in faults].count(True) == 1, what
    assert len(faults) == len(expected)
    assert not any("\n" in fault for fault in faults)


def test_checks_across_keys_run_on_what_is_valid_and_spare_what_is_not() -> None:
    faults = faults_of(
        overrides=["model.dropout=0.1", "federation.min_sites=50", "data.sites=-1"],
    )
    assert any(fault.startswith("model.dropout must be 0") for fault in faults)
    assert any(fault.startswith("data.sites must be") for fault in faults)
    # min_sites cannot be judged against a number of sites that is itself at fault.
    assert len(faults) == 2


@pytest.mark.parametrize(
    "override",
    [
        "privacy.target_epsilon=0",
        "privacy.target_epsilon=-1",
        "privacy.target_epsilon=nan",
        "privacy.target_epsilon=inf",
        "privacy.target_delta=1",
        "privacy.target_delta=true",
        "privacy.noise_multiplier=-0.5",
        "privacy.noise_multiplier=0",
        "privacy.noise_multiplier=nan",
        "privacy.noise_multiplier=inf",
        "privacy.noise_multiplier=automatic",
        "privacy.max_grad_norm=inf",
        "privacy.sample_rate=1.1",
        "privacy.sample_rate='0.5'",
        "privacy.insecure_seeded_noise=True",
        "privacy.insecure_seeded_noise=1",
        "privacy.unit=interaction",
        "data.sites=0",
        "data.sites=2.0",
        "data.sites=[1, 2]",
        "data.sites=",
        "data.dataset=",
        "engine.kind=ray",
    ],
)
def test_a_bad_value_is_one_fault_with_name_and_value(override: str) -> None:
    key, _, value = override.partition("=")
    (fault,) = faults_of(overrides=[override])
    assert fault.startswith(f"{key} must be ")
    assert f"got {value}".rstrip("'").replace("'", '"') in fault or f'got "{value}"' in fault


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("privacy.mode=locl", "did you mean local?"),
        ("privacy.noise_multiplier=atuo", "did you mean auto?"),
        ("privacy.sites=3", "did you mean data.sites?"),
        ("federation.round=3", "did you mean federation.rounds?"),
        ("fedration.rounds=3", "did you mean federation.rounds?"),
    ],
)
def test_did_you_mean(override: str, meant: str) -> None:
    (fault,) = faults_of(overrides=[override])
    assert meant in fault


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("privacy.noise_multiplier=auto", "auto"),
        ("privacy.noise_multiplier=2", 2.0),
        ("privacy.noise_multiplier = 0.75", 0.75),
        ("data.dataset=synthetic", "synthetic"),
        ("data.dataset=a=b", "a=b"),
        ("data.dataset='quoted text'", "quoted text"),
        ("data.dataset=2024-01-01", "2024-01-01"),
        ("data.dataset='a'\nx = 1", "'a'\nx = 1"),
        ("privacy.insecure_seeded_noise=true", True),
        ("privacy.target_epsilon=3", 3.0),
    ],
)
def test_values_of_set(override: str, value: object) -> None:
    key = override.partition("=")[0].strip()
    loaded = load_config(overrides=[override]).to_flat()[key]
    assert loaded == value
    assert type(loaded) is type(value)


def test_infinite_epsilon_is_for_runs_without_privacy() -> None:
    config = load_config(overrides=["privacy.mode=none", "privacy.target_epsilon=inf"])
    assert math.isinf(config.privacy.target_epsilon)


def test_missing_scenario(tmp_path: Path) -> None:
    (fault,) = faults_of(scenario=tmp_path / "no.toml")
    assert "cannot be read: no such file or directory; check its path" in fault


def test_folder_as_scenario(tmp_path: Path) -> None:
    (fault,) = faults_of(scenario=tmp_path)
    assert "is a directory" in fault


def test_malformed_toml_is_told_with_its_line(write_scenario: WriteScenario) -> None:
    faults = faults_of(scenario=write_scenario("[data]\nsites = \n"), overrides=["a.b=1"])
    assert "is not valid TOML" in faults[0]
    assert "line 2" in faults[0]
    assert "unknown key a.b" in faults[1]


def test_scenario_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_bytes(b"\xff\xfe\x00")
    (fault,) = faults_of(scenario=path)
    assert "is not UTF-8 text" in fault


def test_section_that_is_no_table(write_scenario: WriteScenario) -> None:
    (fault,) = faults_of(scenario=write_scenario("privacy = 3\n"))
    assert fault.startswith("privacy = 3 stands outside any section")


def test_flat_config_is_read_back() -> None:
    config = load_config(overrides=["data.sites=4", "privacy.noise_multiplier=1.5"])
    assert load_config(flat=config.to_flat()) == config


def test_other_schema_version_is_refused(write_scenario: WriteScenario) -> None:
    (fault,) = faults_of(scenario=write_scenario("schema_version = 2\n"))
    assert fault.startswith("schema_version must be 1, got 2")


@given(
    sites=st.integers(min_value=2, max_value=10**6),
    epsilon=st.floats(min_value=1e-6, max_value=1e6),
    dataset=st.text(min_size=1).filter(lambda text: text.isprintable()),
    sigma=st.one_of(st.just("auto"), st.floats(min_value=1e-3, max_value=1e3)),
)
def test_toml_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    sites: int,
    epsilon: float,
    dataset: str,
    sigma: float | str,
) -> None:
    flat = {
        "data.sites": sites,
        "data.dataset": dataset,
        "privacy.mode": "local",
        "privacy.target_epsilon": epsilon,
        "privacy.noise_multiplier": sigma,
    }
    config = load_config(flat=flat)
    path = tmp_path_factory.mktemp("toml") / "config.toml"
    path.write_text(config_to_toml(config), encoding="utf-8")
    loaded = load_config(scenario=path)
    assert loaded == config
    assert loaded.sha256() == config.sha256()


def test_clipping_updates_without_privacy_is_one_fault() -> None:
    (fault,) = faults_of(overrides=["privacy.mode=none", "privacy.clipping=update"])
    assert fault.startswith("privacy.clipping=update needs a private mode, got privacy.mode=none")
    assert load_config(overrides=["privacy.clipping=update"]).privacy.clipping == "update"


def test_pairs_need_the_popularity_that_says_of_which_items() -> None:
    with pytest.raises(ConfigError, match=r"model\.item_to_item needs the released popularity"):
        load_config(overrides=["model.item_to_item=true", "model.popularity_prior=false"])


def test_direct_construction_checks_across_keys() -> None:
    with pytest.raises(ValidationError, match=r"federation\.min_sites must be at most"):
        RunConfig.model_validate({"data": {"sites": 1}})


def test_hash_is_of_what_defines_the_result() -> None:
    base = load_config()
    same = load_config(overrides=["engine.kind=flower", "data.sites_folder=sites"])
    other = load_config(overrides=["federation.seed=1"])
    assert base.sha256() == same.sha256()
    assert base.sha256() != other.sha256()


def test_sites_are_drawn_only_where_each_releases_its_own() -> None:
    assert faults_of(overrides=["federation.sites_per_round=5"]) == (
        "federation.sites_per_round must be 0 in mode distributed, where one round is one step on "
        "the sum over all sites, got 5; set federation.sites_per_round=0",
    )
    local = ["privacy.mode=local", "data.sites=10"]
    (fault,) = faults_of(overrides=[*local, "federation.sites_per_round=11"])
    assert "must be at most data.sites=10, got 11" in fault
    (fault,) = faults_of(
        overrides=[*local, "federation.sites_per_round=3", "federation.min_sites=4"]
    )
    assert "federation.min_sites must be at most federation.sites_per_round=3, got 4" in fault
    assert load_config(overrides=[*local, "federation.sites_per_round=3"]).sites_asked == 3
    assert load_config(overrides=local).sites_asked == 10


def test_a_remembered_configuration_never_hides_a_wrong_type() -> None:
    assert load_config(flat={"federation.rounds": 1}).federation.rounds == 1
    assert load_config(flat={"federation.rounds": 1}) is load_config(flat={"federation.rounds": 1})
    for wrong in (True, 1.5, "1"):
        assert faults_of(flat={"federation.rounds": wrong})


def test_a_copied_configuration_has_its_own_hash() -> None:
    config = RunConfig()
    before = config.sha256()
    data = config.data.model_copy(update={"seed": 5})
    assert config.model_copy(update={"data": data}).sha256() != before
    elsewhere = config.data.model_copy(update={"sites_folder": "elsewhere"})
    assert config.model_copy(update={"data": elsewhere}).sha256() == before


def test_companions_and_time_cuts_are_checked_with_everything_else() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(
            overrides=[
                "evaluation.companions=frozen,zentral,frozen",
                "data.split=time_cut",
                "data.test_from=5",
                "data.sites=0",
            ]
        )
    text = str(caught.value)
    assert "names 'zentral', which is no companion; use frozen, central, time_cut" in text
    assert "names 'frozen' twice" in text
    assert "data.test_from must be after data.validation_from" in text
    assert "data.sites must be" in text
    assert load_config(overrides=["evaluation.companions="]).evaluation.companions == ""

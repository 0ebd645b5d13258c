"""The site's limits: how they are written, and that each of them is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.policy import SitePolicy, default_policy, simulated_policy
from client.policy_file import read_policy
from common.config import PrivacyConfig, RunConfig
from common.errors import ConfigError, PolicyRefusal
from common.privacy_events import GaussianEvent

WHOLE = """
schema_version = 1
max_epsilon = 6
max_delta = 1e-5
max_epsilon_per_run = 2.5
max_delta_per_run = 1e-6
unit = "user"
allowed_modes = ["local", "distributed"]
min_noise_multiplier = 0.8
min_participants = 5
allowed_releases = ["update"]
base_weights_sha256 = ["{a}"]
code_sha256 = ["{a}"]
code_signers = ["{b}"]
anchor = "/var/lib/fedrec/anchor.jsonl"
""".format(a="a" * 64, b="b" * 64)


def policy_from(tmp_path: Path, text: str) -> SitePolicy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return read_policy(path)


def test_a_whole_policy_is_read(tmp_path: Path) -> None:
    policy = policy_from(tmp_path, WHOLE)
    assert (policy.max_epsilon, policy.max_epsilon_per_run, policy.run_delta) == (6, 2.5, 1e-6)
    assert policy.allowed_modes == {"local", "distributed"}
    assert policy_from(tmp_path, "") == default_policy()


def test_all_faults_are_told_at_once_with_their_remedy(tmp_path: Path) -> None:
    text = """
    max_epsilon = inf
    max_delta = 1.5
    allowed_modes = ["locall"]
    min_participants = "3"
    max_epsilom_per_run = 1
    allow_seeded_noise = 1
    code_sha256 = ["abc"]
    """
    with pytest.raises(ConfigError) as raised:
        policy_from(tmp_path, text)
    faults = raised.value.faults
    assert len(faults) == 7
    keys = (
        "max_epsilon must be finite", "max_delta", "allowed_modes", "min_participants",
        "unknown key max_epsilom_per_run", "allow_seeded_noise", "code_sha256",
    )  # fmt: skip
    for key in keys:
        (fault,) = [each for each in faults if each.startswith(key + " ") or key in each[:45]]
        assert "; " in fault
    assert "did you mean max_epsilon_per_run?" in str(raised.value)


@pytest.mark.parametrize("text", ["max_epsilon = ", "max_epsilon = nan", 'unit = "item"'])
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"policy\.toml"):
        policy_from(tmp_path, text)
    with pytest.raises(ConfigError, match="cannot read"):
        read_policy(tmp_path / "nowhere.toml")


def run(**privacy: object) -> RunConfig:
    return RunConfig(
        privacy=PrivacyConfig(**{"target_epsilon": 2.0, "target_delta": 1e-6} | privacy)
    )


def test_each_limit_is_kept(tmp_path: Path) -> None:
    policy = policy_from(tmp_path, WHOLE)
    policy.check_run(run())
    policy.check_release("update", GaussianEvent(0.8))
    policy.check_base_weights("a" * 64)
    policy.check_code("a" * 64)
    policy.check_code("c" * 64, ["b" * 64])
    refused = [
        (lambda: policy.check_run(run(mode="none")), "mode=none is not allowed"),
        (lambda: policy.check_run(run(target_delta=1e-5)), "limit 1e-06"),
        (lambda: policy.check_run(run(target_epsilon=3.0)), "limit 2.5 for one run"),
        (lambda: policy.check_run(run(insecure_seeded_noise=True)), "seeded_noise"),
        (lambda: policy.check_release("popularity", GaussianEvent(2.0)), "release of popularity"),
        (lambda: policy.check_release("update", GaussianEvent(0.79)), "below the site's least"),
        (lambda: policy.check_metrics(), "exact metrics"),
        (lambda: policy.check_base_weights(""), "SHA-256 unknown"),
        (lambda: policy.check_code("c" * 64, ["d" * 64]), "neither listed"),
    ]
    for check, said in refused:
        with pytest.raises(PolicyRefusal, match=said):
            check()


def test_the_unit_is_the_sites_to_decide(tmp_path: Path) -> None:
    assert default_policy().unit == "user"
    example = run(unit="example")
    with pytest.raises(
        PolicyRefusal, match=r"unit=example is not this site's unit; set it to user"
    ):
        policy_from(tmp_path, WHOLE).check_run(example)
    of_examples = policy_from(tmp_path, WHOLE.replace('"user"', '"example"'))
    of_examples.check_run(example)
    with pytest.raises(PolicyRefusal, match=r"unit=user is not this site's unit"):
        of_examples.check_run(run())
    assert simulated_policy(example).unit == "example"


def test_the_labs_policy_is_the_runs_own_budget() -> None:
    policy = simulated_policy(run())
    assert (policy.max_epsilon, policy.max_delta) == (2.0, 1e-6)
    policy.check_run(run(mode="none"))
    policy.check_metrics()
    default_policy().check_code("c" * 64)

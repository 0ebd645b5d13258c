"""The site agent on a real BERT and a real ledger: budget, retries, randomness, modes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.agent import SiteAgent, agent_for, forget_agents
from client.policy import simulated_policy
from client.release import ReleasePlan, charge_release
from common.adapters import adapter_sha256, all_finite
from common.config import (
    DataConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.errors import BudgetRefusal, ConfigError, MessageError, PolicyRefusal
from common.initial_adapter import initial_adapter
from common.messages import EvaluateRequest, PopularityRequest, TrainRequest
from common.noise_plan import noise_multiplier
from common.site_folder import MANIFEST_FILE
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset

NODE = {"partition-id": 0}
EMPTY = np.zeros(0, dtype=np.float32)


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., RunConfig]:
    folder = tmp_path / "sites"
    write_site_folders(synthetic_dataset(), DataConfig(dataset="synthetic", sites=2), folder)

    def make(*, rounds: int = 2, **privacy: object) -> RunConfig:
        return RunConfig(
            data=DataConfig(dataset="synthetic", sites=2, sites_folder=str(folder)),
            model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
            privacy=PrivacyConfig(
                **{"mode": "local", "targets_per_unit": 3, "negatives_per_unit": 6} | privacy
            ),
            federation=FederationConfig(rounds=rounds, local_lr=0.1),
        )

    yield make
    forget_agents()


def train(config: RunConfig, server_round: int = 1, run: str = "r") -> TrainRequest:
    return TrainRequest(run, server_round, config.sha256(), initial_adapter(config), EMPTY)


def test_a_private_round_releases_all_trainable_tensors_and_states_its_cost(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config()
    reply = agent_for(NODE, config).train(train(config))
    assert sorted(reply.update) == sorted(initial_adapter(config))
    assert all_finite(reply.update)
    assert all(np.abs(update).min() > 0 for update in reply.update.values())  # noise everywhere
    record = reply.release
    assert record.mechanism == "sampled_gaussian"
    assert record.noise_multiplier == pytest.approx(noise_multiplier(config))
    assert record.payload_sha256 == adapter_sha256(reply.update)
    assert record.divisor == reply.declared_units * config.privacy.sample_rate
    assert record.epsilon_prv is not None
    assert 0 < record.epsilon_prv < config.privacy.target_epsilon


def test_the_whole_run_spends_its_target_and_not_more(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config(rounds=3)
    agent = agent_for(NODE, config)
    agent.popularity(PopularityRequest("r", config.sha256()))
    spent = [agent.train(train(config, r)).release.epsilon_prv for r in (1, 2, 3)]
    assert spent == sorted(spent)
    assert 0.98 * 8 <= float(spent[-1] or 0) <= 8
    with pytest.raises(BudgetRefusal, match="nothing was trained or released"):
        agent.train(train(config, 4))
    assert len(agent.ledger.history()) == 4


def test_a_second_run_continues_the_same_ledger(make_config: Callable[..., RunConfig]) -> None:
    config = make_config(rounds=1)
    agent_for(NODE, config).train(train(config, 1, "first"))
    forget_agents()  # as if the process had ended
    agent = agent_for(NODE, config)
    assert len(agent.ledger.history()) == 1
    with pytest.raises(BudgetRefusal, match="over its limit"):
        agent.train(train(config, 1, "second"))


def test_a_retry_gets_identical_bytes_and_is_charged_once(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config()
    first = agent_for(NODE, config).train(train(config))
    forget_agents()
    again = agent_for(NODE, config).train(train(config))
    assert adapter_sha256(again.update) == adapter_sha256(first.update)
    assert again.release == first.release
    assert len(agent_for(NODE, config).ledger.history()) == 1


def test_noise_repeats_only_in_a_marked_run(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    for marked in (False, True):
        config = make_config(insecure_seeded_noise=marked)
        hashes = []
        for attempt in ("x", "y"):
            for ledger in (tmp_path / "sites").glob("*/ledger.sqlite*"):
                ledger.unlink()
            forget_agents()
            reply = agent_for(NODE, config).train(train(config, 1, attempt))
            assert reply.release.insecure_seeded_noise is marked
            hashes.append(adapter_sha256(reply.update))
        assert (hashes[0] == hashes[1]) is marked


def test_mode_none_trains_without_a_claim_and_repeats(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config(mode="none")
    reply = agent_for(NODE, config).train(train(config, 1, "a"))
    again = agent_for(NODE, config).train(train(config, 1, "b"))
    assert adapter_sha256(reply.update) == adapter_sha256(again.update)
    assert reply.release.mechanism == "none"
    assert reply.release.event is None
    assert reply.release.epsilon_prv is None
    assert agent_for(NODE, config).ledger.history() == ()


def test_popularity_is_noised_and_charged(make_config: Callable[..., RunConfig]) -> None:
    config = make_config(popularity_noise_multiplier=3.0)
    agent = agent_for(NODE, config)
    reply = agent.popularity(PopularityRequest("r", config.sha256()))
    assert reply.counts.shape == (len(agent.data.catalogue),)
    assert (reply.counts < 0).any()  # 30 units of norm 1 under σ = 3: noise dominates
    assert reply.release.mechanism == "gaussian"
    assert reply.release.noise_multiplier == 3.0
    assert len(agent.ledger.history()) == 1


def test_another_configuration_is_refused(make_config: Callable[..., RunConfig]) -> None:
    config, other = make_config(), make_config(max_grad_norm=2.0)
    with pytest.raises(MessageError, match="config hash"):
        agent_for(NODE, config).train(train(other))


def test_a_real_site_refuses_mode_none_and_exact_metrics(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    manifest = tmp_path / "sites" / "site-0000" / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"simulated": true', '"simulated": false'))
    config = make_config(mode="none")
    with pytest.raises(PolicyRefusal, match="operator must allow it"):
        agent_for(NODE, config).train(train(config))
    config = make_config()
    request = EvaluateRequest("r", 1, config.sha256(), initial_adapter(config), EMPTY, "validation")
    with pytest.raises(PolicyRefusal, match="exact metrics"):
        agent_for(NODE, config).evaluate(request)
    marked = make_config(insecure_seeded_noise=True)
    with pytest.raises(PolicyRefusal, match="insecure_seeded_noise"):
        agent_for(NODE, marked).train(train(marked))


def test_a_real_site_takes_no_part_in_an_audit_run(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config()
    evaluation = config.evaluation.model_copy(update={"audit_canaries": 10})
    audited = config.model_copy(update={"evaluation": evaluation})
    simulated = agent_for({"partition-id": 0}, audited)
    assert simulated.train(train(audited)).release is not None
    real = replace(simulated.data, simulated=False)
    agent = SiteAgent(real, audited, simulated.policy, simulated.ledger)
    with pytest.raises(PolicyRefusal, match=r"audit_canaries=10: an audit run"):
        agent.train(train(audited, 2))


def test_evaluation_sums_are_marked_lab_only(make_config: Callable[..., RunConfig]) -> None:
    config = make_config()
    agent = agent_for(NODE, config)
    request = EvaluateRequest("r", 1, config.sha256(), initial_adapter(config), EMPTY, "test")
    reply = agent.evaluate(request)
    assert reply.sums.users == len(agent.splits) == 30
    assert 0 <= reply.sums.hr_10 <= 30
    assert reply.release.mechanism == "exact_lab_only"


def test_examples_are_divided_by_their_own_public_number_and_named(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config(unit="example", sample_rate=0.2)
    agent = agent_for(NODE, config)
    declared = agent.data.declared_examples
    assert declared == len(agent.units) > agent.data.declared_units
    reply = agent.train(train(config))
    assert reply.declared_units == declared
    assert reply.release.divisor == pytest.approx(0.2 * declared)
    assert (reply.release.unit, agent.ledger.unit) == ("example", "example")
    popularity = agent.popularity(PopularityRequest("r", config.sha256()))
    assert popularity.release.unit == "example"
    request = EvaluateRequest("r", 1, config.sha256(), initial_adapter(config), EMPTY, "test")
    assert agent.evaluate(request).release.unit == "example"


def test_a_site_that_declares_no_examples_refuses_a_run_of_them(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    manifest = tmp_path / "sites" / "site-0000" / MANIFEST_FILE
    manifest.write_text(
        re.sub(r'"declared_examples": \d+', '"declared_examples": null', manifest.read_text())
    )
    config = make_config(unit="example")
    agent = agent_for(NODE, config)
    with pytest.raises(PolicyRefusal, match="set declared_examples"):
        agent.train(train(config))
    assert agent.ledger.history() == ()
    assert len(agent.ledger.export()["refusals"]) == 1


@pytest.mark.parametrize(("first", "then"), [("user", "example"), ("example", "user")])
def test_a_ledger_of_one_unit_is_never_charged_for_the_other(
    make_config: Callable[..., RunConfig], first: str, then: str
) -> None:
    begun, other = make_config(unit=first), make_config(unit=then)
    agent = agent_for(NODE, begun)
    agent.train(train(begun))
    with pytest.raises(
        PolicyRefusal, match=f"charged per {first}, and cannot be charged per {then}"
    ):
        agent_for(NODE, other)
    # Nor by an agent that is handed a ledger which is not its policy's.
    swapped = SiteAgent(agent.data, other, simulated_policy(other), agent.ledger)
    with pytest.raises(PolicyRefusal, match=f"cannot be charged per {then}"):
        swapped.train(train(other, 2))
    assert len(agent.ledger.history()) == 1
    plan = ReleasePlan("r", 3, "update", None, 1.0, 1.0)
    with pytest.raises(PolicyRefusal, match=f"cannot be charged per {then}"):
        charge_release(agent.ledger, plan, initial_adapter(other), other, "site-0000", agent.policy)


def test_a_real_site_allows_only_users_unless_its_policy_says_so(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    folder = tmp_path / "sites" / "site-0000"
    manifest = folder / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"simulated": true', '"simulated": false'))
    config = make_config(unit="example")
    agent = agent_for(NODE, config)
    with pytest.raises(PolicyRefusal, match="unit=example is not this site's unit"):
        agent.train(train(config))
    assert agent.ledger.unit == "user"
    forget_agents()
    (folder / "policy.toml").write_text('unit = "example"')
    with pytest.raises(PolicyRefusal, match="charged per user"):  # the ledger has begun
        agent_for(NODE, config)
    (folder / "ledger.sqlite").unlink()
    (folder / "policy.toml").write_text(f'unit = "example"\nanchor = "{tmp_path / "anchor"}"')
    assert agent_for(NODE, config).train(train(config)).release.unit == "example"


def test_a_node_without_a_folder_is_told_what_to_do() -> None:
    with pytest.raises(ConfigError, match="fedrec data partition"):
        agent_for({"partition-id": 0}, RunConfig())


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_in_a_mode_of_sums_a_site_releases_nothing_of_its_own(
    make_config: Callable[..., RunConfig], mode: str
) -> None:
    config = make_config(mode="local").model_copy(
        update={"privacy": PrivacyConfig(mode=mode, targets_per_unit=3, negatives_per_unit=6)}
    )
    agent = agent_for(NODE, config)
    with pytest.raises(PolicyRefusal, match="nothing of its own"):
        agent.train(train(config))
    with pytest.raises(PolicyRefusal, match="nothing of its own"):
        agent.popularity(PopularityRequest("r", config.sha256()))
    assert agent.ledger.history() == ()
    refused = [entry["kind"] for entry in agent.ledger.export()["refusals"]]
    assert refused == ["refusal:update:PolicyRefusal", "refusal:popularity:PolicyRefusal"]

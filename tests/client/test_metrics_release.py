"""Private metrics at a site: bounded, noised as declared, charged, and refused in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from client.agent import SiteAgent, agent_for, forget_agents
from client.metrics_release import MetricsRelease, noised_sums
from client.policy import SitePolicy
from common.accounting import epsilon
from common.config import (
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.errors import BudgetRefusal, PolicyRefusal
from common.initial_adapter import initial_adapter
from common.messages import EvaluateReply, EvaluateRequest, NoisedMetricsReply
from common.metrics import METRIC_NAMES
from common.privacy_events import GaussianEvent, event_from_dict
from common.randomness import RandomSource, secure_source
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset

SIGMA = 20.0
Metrics = dict[str, np.ndarray]


class Silent:
    """A source whose normals are zeros: what is left is the exact sum."""

    def normal(self, n: int) -> np.ndarray:
        return np.zeros(n)


def metrics_of(rows: list[list[float]]) -> Metrics:
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(METRIC_NAMES))
    return {name: table[:, column] for column, name in enumerate(METRIC_NAMES)}


user = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=5, max_size=5)


@given(st.lists(user, min_size=1, max_size=6))
def test_one_user_moves_the_sum_by_at_most_root_six(rows: list[list[float]]) -> None:
    silent: RandomSource = Silent()  # type: ignore[assignment]
    with_all = noised_sums(metrics_of(rows), 1.0, silent).astype(np.float64)
    without = noised_sums(metrics_of(rows[1:]), 1.0, silent).astype(np.float64)
    assert np.isfinite(with_all).all()
    assert np.linalg.norm(with_all - without) <= math.sqrt(6) * (1 + 1e-6)


def test_the_sums_count_users_and_add_their_metrics() -> None:
    rows = [[1.0, 1.0, 0.5, 0.25, 0.125], [0.0, 1.0, 0.0, 0.75, 0.5]]
    silent: RandomSource = Silent()  # type: ignore[assignment]
    assert noised_sums(metrics_of(rows), 1.0, silent).tolist() == [2, 1, 2, 0.5, 1, 0.625]


@pytest.mark.statistical
@pytest.mark.parametrize(("declared", "accepted"), [(3.0, True), (3.0 / 0.9, False)])
def test_noise_has_the_declared_deviation(declared: float, accepted: bool) -> None:
    # χ² over 18,000 numbers at 99.99%: a right σ fails once in 10,000 runs, and noise that is
    # 10% too small is seen (its power is 1 to 15 digits).
    source, draws = secure_source(), 3000
    noise = np.concatenate([noised_sums(metrics_of([]), 3.0, source) for _ in range(draws)])
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], 6 * draws)
    statistic = float(np.square(noise.astype(np.float64) / (declared * math.sqrt(6))).sum())
    assert bool(low <= statistic <= high) is accepted


@pytest.fixture
def make_config(tmp_path: Path) -> Iterator[Callable[..., RunConfig]]:
    folder = tmp_path / "sites"
    write_site_folders(synthetic_dataset(), DataConfig(dataset="synthetic", sites=2), folder)

    def make(metrics: str = "private", sigma: float = SIGMA, **privacy: object) -> RunConfig:
        return RunConfig(
            data=DataConfig(dataset="synthetic", sites=2, sites_folder=str(folder)),
            model=ModelConfig(head="bilinear", head_dim=4, lora_layers=1, lora_rank=2, lora_rows=4),
            privacy=PrivacyConfig(targets_per_unit=3, negatives_per_unit=6, **privacy),
            federation=FederationConfig(rounds=2, local_lr=0.1),
            evaluation=EvaluationConfig(metrics=metrics, metrics_noise_multiplier=sigma),
        )

    yield make
    forget_agents()


def agent_of(config: RunConfig) -> SiteAgent:
    return agent_for({"partition-id": 0}, config)


def ask(config: RunConfig, stage: str = "validation", server_round: int = 1) -> EvaluateRequest:
    return EvaluateRequest(
        "r",
        server_round,
        config.sha256(),
        initial_adapter(config),
        np.zeros(0, np.float32),
        stage,  # type: ignore[arg-type]
    )


def private(agent: SiteAgent, request: EvaluateRequest) -> NoisedMetricsReply:
    reply = agent.evaluate(request)
    assert isinstance(reply, NoisedMetricsReply)
    return reply


def test_a_private_answer_is_noised_and_charged(make_config: Callable[..., RunConfig]) -> None:
    config = make_config()
    agent = agent_of(config)
    reply, record = private(agent, ask(config)), agent.ledger.export()["releases"][-1]["record"]
    assert reply.sums.shape == (6,)
    assert reply.sums[0] != len(agent.splits)
    assert agent.ledger.history() == (GaussianEvent(SIGMA),)
    release = reply.release
    assert (release.kind, release.mechanism, release.sampling) == ("metrics", "gaussian", "full")
    assert release.max_grad_norm == math.sqrt(6)
    assert release.noise_multiplier == SIGMA
    assert release.event is not None
    assert release.epsilon_prv == epsilon([event_from_dict(release.event)], 1e-4)
    assert record["payload_sha256"] == release.payload_sha256


def test_a_retry_repeats_the_bytes_and_each_stage_is_its_own_release(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config()
    first = private(agent_of(config), ask(config))
    forget_agents()  # as if the process had ended
    agent = agent_of(config)
    again, test = private(agent, ask(config)), private(agent, ask(config, "test"))
    assert np.array_equal(first.sums, again.sums)
    assert first.release == again.release
    assert not np.array_equal(first.sums, test.sums)
    assert test.release.tensors == ["metrics.test"]
    assert agent.ledger.history() == (GaussianEvent(SIGMA),) * 2


def test_the_budget_is_checked_before_anything_is_measured(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config(sigma=0.1, noise_multiplier=1.0)
    agent = agent_of(config)

    def measure() -> Metrics:
        raise AssertionError("measured before the budget was checked")

    release = MetricsRelease(agent.data, config, agent.policy, agent.ledger)
    with pytest.raises(BudgetRefusal, match="over its limit"):
        release.answer(ask(config), measure, secure_source)
    with pytest.raises(BudgetRefusal):
        agent.evaluate(ask(config))
    assert agent.ledger.history() == ()
    assert agent.ledger.export()["refusals"]


@pytest.mark.parametrize(
    ("policy", "metrics", "said"),
    [
        ({}, "private", "a release of metrics is not allowed"),
        ({"allowed_releases": {"metrics"}, "min_noise_multiplier": 30.0}, "private", "below"),
        ({"allow_exact_metrics": True}, "exact", "exact metrics may not leave"),
        ({"allowed_releases": {"metrics"}}, "exact", "exact metrics may not leave"),
        ({"allowed_releases": {"metrics"}, "allow_exact_metrics": True}, "none", "asks no site"),
    ],
)
def test_what_the_policy_or_the_run_forbids_is_refused(
    make_config: Callable[..., RunConfig], policy: dict[str, object], metrics: str, said: str
) -> None:
    config = make_config(metrics)
    agent = agent_of(config)
    agent.policy = SitePolicy(
        **{k: frozenset(v) if isinstance(v, set) else v for k, v in policy.items()}
    )
    with pytest.raises(PolicyRefusal, match=said):
        agent.evaluate(ask(config))
    assert agent.ledger.history() == ()


def test_private_metrics_need_no_permission_for_exact_ones(
    make_config: Callable[..., RunConfig],
) -> None:
    config = make_config()
    agent = agent_of(config)
    agent.policy = SitePolicy(allowed_releases=frozenset({"metrics"}))
    assert private(agent, ask(config)).release.mechanism == "gaussian"


def test_exact_metrics_stay_lab_only_and_uncharged(make_config: Callable[..., RunConfig]) -> None:
    config = make_config("exact")
    agent = agent_of(config)
    reply = agent.evaluate(ask(config))
    assert isinstance(reply, EvaluateReply)
    assert reply.release.mechanism == "exact_lab_only"
    assert agent.ledger.history() == ()


def test_noise_repeats_only_in_a_marked_run(make_config: Callable[..., RunConfig]) -> None:
    for marked in (False, True):
        config = make_config(insecure_seeded_noise=marked)
        agent = agent_of(config)
        one = agent._source("metrics:test", 1).normal(6)
        other = agent._source("metrics:test", 1).normal(6)
        assert np.array_equal(one, other) is marked
        assert not np.array_equal(one, agent._source("metrics:validation", 1).normal(6))

"""A site's co-occurrence: bounded, noised as declared, charged once, and refused in time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from client.agent import SiteAgent, forget_agents
from client.cooccurrence_release import CooccurrenceRelease
from client.policy import SitePolicy
from common.accounting import epsilon
from common.config import RunConfig
from common.cooccurrence import cooccurrence_sum, triangle_size
from common.errors import BudgetRefusal, MessageError, PolicyRefusal
from common.messages import CooccurrenceRequest
from common.privacy_events import GaussianEvent, event_from_dict
from common.privacy_units import make_units
from common.randomness import secure_source
from tests.sum_federation import ITEMS, SumFederation, sum_config, written_sites

PRIOR = np.arange(ITEMS, dtype=np.float32)


@pytest.fixture(autouse=True)
def no_agents_are_left() -> Iterator[None]:
    yield
    forget_agents()


def pair_config(folder: Path, sites: int = 2, *, items: int = 0, **privacy: Any) -> RunConfig:
    """A run that counts pairs; its sites are small."""
    fields = {"mode": "local", "insecure_seeded_noise": False, "max_colluders": 0}
    config = sum_config(folder, sites, **(fields | privacy))
    model = config.model.model_copy(update={"item_to_item": True, "item_to_item_items": items})
    return config.model_copy(update={"model": model})


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    return written_sites(tmp_path / "sites", 2, users=12)


def agent_of(config: RunConfig) -> SiteAgent:
    return SumFederation(config).agent("site-0000")


def ask(config: RunConfig, prior: np.ndarray = PRIOR) -> CooccurrenceRequest:
    return CooccurrenceRequest("r", config.sha256(), prior)


def exact(agent: SiteAgent, *, bounded: bool) -> np.ndarray:
    """Computed here once more, from the whole histories."""
    units = make_units(agent.splits, max_history=10_000)
    return cooccurrence_sum(units, np.arange(ITEMS), ITEMS, half_life=20.0, bounded=bounded)


def test_without_privacy_the_exact_sum_leaves(sites: Path) -> None:
    config = pair_config(sites, mode="none")
    agent = agent_of(config)
    reply = agent.cooccurrence(ask(config))
    np.testing.assert_allclose(reply.cells, exact(agent, bounded=False), rtol=1e-6)
    assert (reply.release.mechanism, reply.release.kind) == ("none", "cooccurrence")
    assert reply.release.event is None


def test_a_retry_sends_the_same_bytes_and_is_charged_once(sites: Path) -> None:
    config = pair_config(sites, cooccurrence_noise_multiplier=3.0)
    agent = agent_of(config)
    one, other = (agent.cooccurrence(ask(config)) for _ in range(2))
    assert one.cells.tobytes() == other.cells.tobytes()
    assert one.release == other.release
    assert agent.ledger.history() == (GaussianEvent(3.0),)
    assert event_from_dict(one.release.event or {}) == GaussianEvent(3.0)
    assert one.release.epsilon_prv == pytest.approx(epsilon([GaussianEvent(3.0)], 1e-4))
    assert one.release.max_grad_norm == 1.0
    assert one.release.sampling == "full"


@pytest.mark.statistical
@pytest.mark.parametrize(("declared", "accepted"), [(3.0, True), (3.0 / 0.9, False)])
def test_noise_has_the_declared_deviation(tmp_path: Path, declared: float, accepted: bool) -> None:
    # χ² over 20,100 cells at 99.99%; see tests/client/test_release.py.
    folder = written_sites(tmp_path / "wide", 2, users=12, items=200)
    config = pair_config(folder, cooccurrence_noise_multiplier=3.0)
    agent = agent_of(config)
    reply = agent.cooccurrence(ask(config, np.zeros(200, np.float32)))
    units = make_units(agent.splits, max_history=10_000)
    noiseless = cooccurrence_sum(units, np.arange(200), 200, half_life=20.0, bounded=True)
    noise = (reply.cells - noiseless) / declared
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], triangle_size(200))
    assert bool(low <= np.square(noise).sum() <= high) is accepted


def test_only_the_most_popular_items_are_counted(sites: Path) -> None:
    config = pair_config(sites, mode="none", items=5)
    agent = agent_of(config)
    reply = agent.cooccurrence(ask(config))
    units = make_units(agent.splits, max_history=10_000)
    most = np.arange(ITEMS)[::-1][:5]
    expected = cooccurrence_sum(units, most, ITEMS, half_life=20.0, bounded=False)
    np.testing.assert_allclose(reply.cells, expected, rtol=1e-6)


def test_an_example_counts_its_target_and_what_it_was_shown(sites: Path) -> None:
    config = pair_config(sites, unit="example", target_delta=1e-5, items=7)
    agent = agent_of(config)
    assert len(agent.units) > len(agent.splits)
    cells = agent._pairs.exact(PRIOR, ITEMS)
    items = np.arange(ITEMS)[::-1][:7]
    parts = [
        cooccurrence_sum([unit], items, ITEMS, half_life=20.0, bounded=True) for unit in agent.units
    ]
    np.testing.assert_allclose(cells, np.sum(parts, axis=0), atol=1e-9)
    assert max(np.linalg.norm(part) for part in parts) <= 1.0


def test_the_budget_is_checked_before_anything_is_counted(sites: Path) -> None:
    config = pair_config(sites, cooccurrence_noise_multiplier=0.1, noise_multiplier=1.0)
    agent = agent_of(config)

    def count() -> np.ndarray:
        raise AssertionError("counted before the budget was checked")

    release = CooccurrenceRelease(agent.data, config, agent.policy, agent.ledger)
    with pytest.raises(BudgetRefusal, match="over its limit"):
        release.answer(ask(config), count, secure_source)
    with pytest.raises(BudgetRefusal):
        agent.cooccurrence(ask(config))
    assert agent.ledger.history() == ()
    assert agent.ledger.export()["refusals"]


def test_a_policy_must_allow_it_by_name(sites: Path) -> None:
    config = pair_config(sites)
    agent = agent_of(config)
    agent.policy = SitePolicy()
    with pytest.raises(PolicyRefusal, match="a release of cooccurrence is not allowed"):
        agent.cooccurrence(ask(config))
    allowed = SitePolicy(
        allowed_releases=frozenset({"cooccurrence"}), min_noise_multiplier=3.0, max_epsilon=20.0
    )
    agent.policy = allowed
    with pytest.raises(PolicyRefusal, match="below the site's least, 3"):
        agent.cooccurrence(ask(config))
    agent.policy = allowed.model_copy(update={"min_noise_multiplier": 1.0})
    assert agent.cooccurrence(ask(config)).release.kind == "cooccurrence"


def test_what_the_run_does_not_count_is_refused(sites: Path) -> None:
    config = sum_config(sites, 2, mode="local")
    with pytest.raises(PolicyRefusal, match=r"model\.item_to_item=false"):
        agent_of(config).cooccurrence(ask(config))


def test_a_sum_has_no_release_of_one_site(tmp_path: Path) -> None:
    folder = written_sites(tmp_path / "three", 3)
    config = pair_config(folder, 3, mode="central", items=5)
    with pytest.raises(PolicyRefusal, match="releases its part in a sum"):
        agent_of(config).cooccurrence(ask(config))


def test_a_prior_of_another_catalogue_is_refused_uncharged(sites: Path) -> None:
    config = pair_config(sites)
    agent = agent_of(config)
    with pytest.raises(MessageError, match=f"over 4 items, this site's catalogue has {ITEMS}"):
        agent.cooccurrence(ask(config, np.zeros(4, np.float32)))
    assert agent.ledger.history() == ()

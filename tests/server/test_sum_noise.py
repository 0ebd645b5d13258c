"""The noise in a released sum: as much as was declared, of each site its own, never twice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import client.local_steps
import client.site_by_site
from client.agent import forget_agents
from client.release import unit_popularity
from common.messages import PopularityRequest, TrainRequest
from common.noise_plan import noise_multiplier, popularity_deviation
from common.secagg.modular import to_signed
from tests.sum_federation import (
    NO_PRIOR,
    SumFederation,
    capture_inputs,
    fresh_copy,
    sum_config,
    written_sites,
)

FALSE_ALARM = 1e-6  # of each statistical test, on a correct build
ITEMS = 8000  # so many numbers tell σ from 0.9σ at that rate, both ways
UNITS = {"max_site_units": 60, "insecure_seeded_noise": False, "max_colluders": 0}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]


@pytest.fixture(autouse=True)
def no_agents_are_left() -> Any:
    yield
    forget_agents()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sites with a catalogue of thousands of items."""
    return written_sites(tmp_path_factory.mktemp("wide") / "sites", 3, 12, ITEMS)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sites of twenty users."""
    return written_sites(tmp_path_factory.mktemp("three") / "sites", 3, 60)


def check_noise(noise: np.ndarray, declared: float) -> None:
    """χ² accepts the declared standard deviation, and nine tenths of it for what it is."""
    low, high = stats.chi2.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], len(noise))
    squares = float(np.square(noise).sum()) / declared**2
    assert low < squares < high
    assert not low < squares * 0.9**2 < high  # had the noise been 0.9 of what is declared …
    assert not low < squares / 0.9**2 < high  # … or the declaration 0.9 of the noise
    assert stats.kstest(noise / declared, "norm").pvalue > FALSE_ALARM


@pytest.mark.statistical
@pytest.mark.parametrize("lost", [(), ("site-0001",)])
def test_distributed_noise_in_the_popularity_sum(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: tuple[str, ...]
) -> None:
    config = sum_config(fresh_copy(wide, tmp_path / "s"), 3, max_dropouts=1, **UNITS)
    federation = SumFederation(config)
    federation.enrol()
    federation.grid.lost = {(site, "mask_input", 0): "out" for site in lost}
    captured, exact = capture_inputs(monkeypatch, lambda: federation.grid.at_work)
    total, outcome = federation.add_up()
    assert total is not None
    left = [site for site in federation.names if site not in lost]
    assert outcome.ok == len(left)
    noise = total - sum(exact.of(left))
    check_noise(noise, popularity_deviation(config, len(left)))
    charged = federation.agent("site-0000").ledger.history()[0]
    assert charged.noise_multiplier == pytest.approx(1.4, rel=1e-3)
    if lost:  # those certain to stay carry just what was charged
        check_noise(noise, charged.noise_multiplier)
    plan = federation.plan(federation.request("site-0000", "advertise"))
    own = [
        to_signed(captured[site, 0], plan.modulus_bits) * plan.grid_step - exact[site, 0]
        for site in federation.names
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        correlation = np.corrcoef(own[one], own[other])[0, 1]
        assert abs(correlation) * math.sqrt(ITEMS) < stats.norm.isf(FALSE_ALARM / 6)


@pytest.mark.statistical
def test_central_noise_in_the_popularity_sum(wide: Path, tmp_path: Path) -> None:
    config = sum_config(fresh_copy(wide, tmp_path / "s"), 3, mode="central", **UNITS)
    noises = []
    for run in ("a", "b"):
        each = SumFederation(config, run)
        each.enrol()
        total, outcome = each.add_up()
        assert total is not None
        assert outcome.ok == 3
        exact = sum(unit_popularity(each.agent(s).units, ITEMS) for s in each.names)
        noises.append(total - exact)
        check_noise(noises[-1], popularity_deviation(config, 3))
        assert popularity_deviation(config, 3) == config.privacy.popularity_noise_multiplier
    correlation = np.corrcoef(noises[0], noises[1])[0, 1]
    assert abs(correlation) * math.sqrt(ITEMS) < stats.norm.isf(FALSE_ALARM / 2)


@pytest.mark.statistical
def test_local_noise_in_each_popularity_release(wide: Path, tmp_path: Path) -> None:
    config = sum_config(fresh_copy(wide, tmp_path / "s"), 3, mode="local", **UNITS)
    federation = SumFederation(config)
    noises = []
    for site in federation.names:
        agent = federation.agent(site)
        reply = agent.popularity(PopularityRequest("r", config.sha256()))
        noises.append(reply.counts - unit_popularity(agent.units, ITEMS))
        check_noise(noises[-1], config.privacy.popularity_noise_multiplier)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        correlation = np.corrcoef(noises[one], noises[other])[0, 1]
        assert abs(correlation) * math.sqrt(ITEMS) < stats.norm.isf(FALSE_ALARM / 6)


@pytest.mark.statistical
@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_noise_in_a_sum_of_updates(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    config = sum_config(
        fresh_copy(three, tmp_path / "s"), 3, mode=mode, head_dim=80, max_dropouts=0, **UNITS
    )
    federation = SumFederation(config)
    federation.enrol()
    exact = []
    real = client.site_by_site.sampled_unit_sum

    def observed(*arguments: Any, **named: Any) -> Any:
        exact.append(real(*arguments, **named))
        return exact[-1]

    monkeypatch.setattr(client.site_by_site, "sampled_unit_sum", observed)
    total, outcome = federation.add_up(1)
    assert total is not None
    assert outcome.ok == len(exact) == 3
    flat = [np.concatenate([each[name].ravel() for name in sorted(each)]) for each in exact]
    assert len(total) > 6000
    sigma = noise_multiplier(config) * config.privacy.max_grad_norm
    check_noise(total - sum(flat), sigma)
    for site in federation.names:
        charged = federation.agent(site).ledger.history()[0]
        assert charged.noise_multiplier == pytest.approx(noise_multiplier(config), rel=1e-6)


@pytest.mark.parametrize(
    "mode",
    [
        "distributed",
        pytest.param("central", marks=pytest.mark.slow),
        pytest.param("local", marks=pytest.mark.slow),
    ],
)
def test_noise_and_sampled_units_repeat_only_in_a_marked_run(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    sampled: list[list[int]] = []
    real = client.local_steps.poisson_sample

    def observed(*arguments: Any) -> Any:
        sampled.append(real(*arguments).tolist())
        return real_last(sampled)

    def real_last(seen: list[list[int]]) -> Any:
        return np.array(seen[-1], dtype=np.int64)

    monkeypatch.setattr(client.local_steps, "poisson_sample", observed)
    for marked in (True, False):
        known = {"noise_multiplier": 3.0, "popularity_noise_multiplier": 3.0}  # not calibrated
        privacy = UNITS | known | {"insecure_seeded_noise": marked, "sample_rate": 0.5}
        results, samples = [], []
        for attempt in "xy":
            sampled.clear()
            folder = fresh_copy(three, tmp_path / f"{marked}-{attempt}")
            federation = SumFederation(sum_config(folder, 3, mode=mode, **privacy))
            results.append(released(federation, mode))
            samples.append([*sampled])
        assert len(samples[0]) == 3
        assert all(0 < len(each) < 20 for each in samples[0])
        assert (samples[0] == samples[1]) is marked
        # Where units differ so does the sum; that the noise differs too shows round 0.
        for first, second in zip(*results, strict=True):
            assert np.array_equal(first, second) is marked


def released(federation: SumFederation, mode: str) -> list[np.ndarray]:
    """The popularity sum, over units that are the same in every run, and one update."""
    if mode != "local":
        federation.enrol()
        sums = [federation.add_up(server_round)[0] for server_round in (0, 1)]
        assert all(total is not None for total in sums)
        return [total for total in sums if total is not None]
    found = []
    for site in federation.names:
        agent, sha256 = federation.agent(site), federation.config.sha256()
        found.append(agent.popularity(PopularityRequest("r", sha256)).counts)
        request = federation.request(site, "mask_input", server_round=1)
        reply = agent.train(TrainRequest("r", 1, sha256, request.adapter, NO_PRIOR))
        found += [reply.update[name] for name in sorted(reply.update)]
    return found

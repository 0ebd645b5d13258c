"""Policies: chances are probabilities, lists come as often as they say, schedules fall."""

from __future__ import annotations

import numpy as np
import pytest

from client.serving.exploration import NAMES, Exploration, Pool, pool_rows
from common.errors import ConfigError

RNG = np.random.default_rng(3)
POOL = Pool(RNG.uniform(0, 1, 12), RNG.uniform(0.05, 0.4, 12))


def policies() -> list[Exploration]:
    strengths = {"greedy": 0.0, "epsilon_greedy": 0.4, "ucb": 1.0, "thompson": 1.0}
    return [Exploration(name, strengths[name]) for name in NAMES]


@pytest.mark.parametrize("policy", policies(), ids=lambda each: each.name)
@pytest.mark.parametrize(("size", "k"), [(12, 3), (12, 9), (4, 4), (2, 5), (1, 1)])
def test_each_place_goes_to_somebody_and_nobody_stands_twice(
    policy: Exploration, size: int, k: int
) -> None:
    pool = Pool(POOL.mean[:size], POOL.spread[:size])
    chances = policy.chances(pool, k, 0)
    assert chances.shape == (min(k, size), size)
    assert (chances >= 0).all()
    assert chances.sum(axis=1) == pytest.approx(np.ones(min(k, size)))
    assert (chances.sum(axis=0) <= 1 + 1e-9).all()
    for seed in range(20):
        rows = policy.draw(pool, k, 0, np.random.default_rng(seed))
        assert len(set(rows)) == len(rows) == min(k, size)


@pytest.mark.statistical
@pytest.mark.parametrize("policy", policies(), ids=lambda each: each.name)
def test_lists_come_as_often_as_chances_say(policy: Exploration) -> None:
    """Chi-squared-free: the largest of 36 deviations in standard errors; 5 has chance 2e-5."""
    rng, draws = np.random.default_rng(11), 4000
    chances = policy.chances(POOL, 3, 0)
    counted = np.zeros_like(chances)
    for _ in range(draws):
        counted[np.arange(3), policy.draw(POOL, 3, 0, rng)] += 1 / draws
    # Thompson's chances are themselves a share of 200 lists.
    size = draws if policy.name != "thompson" else 200 * draws / (200 + draws)
    middle = np.clip(chances, 1 / size, 1 - 1 / size)
    off = np.abs(counted - chances) / np.sqrt(middle * (1 - middle) / size)
    assert off.max() < 5


def test_closed_forms() -> None:
    best = np.argsort(-POOL.mean)
    greedy = Exploration("greedy").chances(POOL, 2, 0)
    assert greedy[0, best[0]] == greedy[1, best[1]] == 1
    mixed = Exploration("epsilon_greedy", 0.3).chances(POOL, 2, 0)
    assert mixed[1, best[1]] == pytest.approx(0.7)
    assert mixed[1, best[5]] == pytest.approx(0.3 / 10)
    assert mixed[1, best[0]] == 0
    hopeful = np.argmax(POOL.mean + 2 * POOL.spread)
    assert Exploration("ucb", 2.0).draw(POOL, 1, 0, RNG)[0] == hopeful


def test_the_strength_falls_by_half_of_its_distance() -> None:
    policy = Exploration("ucb", 1.0, 0.2, 100)
    assert policy.strength(0) == 1
    assert policy.strength(100) == pytest.approx(0.6)
    assert policy.strength(10**6) == pytest.approx(0.2)
    assert Exploration("ucb", 1.0).strength(10**6) == 1


def test_the_pool_has_the_best_and_the_hopeful() -> None:
    mean, spread = np.arange(50) / 50, np.zeros(50)
    spread[3] = 5.0
    rows = pool_rows(mean, spread, 10)
    assert len(rows) == 10
    assert set(range(45, 50)) | {3} <= set(rows)
    assert list(pool_rows(mean[:7], spread[:7], 10)) == list(range(7))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("best",), "must be one of"),
        (("ucb", -1.0), "start must be a finite number"),
        (("ucb", float("nan")), "start must be a finite number"),
        (("epsilon_greedy", 1.5), "at most 1"),
        (("ucb", 1.0, 0.0, -5.0), "half_life must be"),
    ],
)
def test_what_is_no_policy_is_refused(arguments: tuple[object, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Exploration(*arguments)  # type: ignore[arg-type]

"""Lists with variety are those of `common.diverse_lists`, over the service's own candidates."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from client.serving.list_policy import Candidates, Greedy, ItemFacts
from client.serving.reranking import DEPTH, Capped, check_facts, list_policy
from common.diverse_lists import calibrated_list, mmr_list, wanted_shares
from common.errors import ConfigError

ITEMS, K = 300, 10


@pytest.fixture
def candidates() -> Candidates:
    random = np.random.default_rng(0)
    genres = np.eye(6)[random.integers(6, size=ITEMS)]
    items = np.flatnonzero(random.random(ITEMS) < 0.8)
    scores = random.normal(size=len(items)).astype(np.float32)
    history = random.permutation(ITEMS)[:20].astype(np.int64)
    return Candidates(items, scores, history, ItemFacts(random.normal(size=(ITEMS, 8)), genres))


def test_mmr_and_calibration_choose_among_the_hundred_best(candidates: Candidates) -> None:
    facts = candidates.facts
    assert facts is not None
    best = np.argsort(-candidates.scores, kind="stable")[:DEPTH]
    scores, items = candidates.scores[best].astype(np.float64), candidates.items[best]
    wanted = wanted_shares(candidates.history, facts.genres)
    for setting, places in {
        "mmr:0.7": mmr_list(scores, facts.vectors[items], K, 0.7),
        "calibrated:0.9": calibrated_list(scores, facts.genres[items], wanted, K, 0.9),
    }.items():
        policy = list_policy(setting)
        chosen = policy.choose(candidates, K)
        assert policy.name == setting
        np.testing.assert_array_equal(chosen.rows, best[places])
        assert chosen.propensities.tolist() == [1.0] * K
        assert chosen.rows.tolist() != best[:K].tolist()


@pytest.mark.parametrize("setting", ["mmr:0", "calibrated:0", "cap:1", "greedy"])
def test_without_strength_a_list_is_the_greedy_one(candidates: Candidates, setting: str) -> None:
    greedy = Greedy().choose(candidates, K)
    np.testing.assert_array_equal(list_policy(setting).choose(candidates, K).rows, greedy.rows)
    whole = list_policy(setting).choose(candidates, len(candidates.items))
    assert sorted(whole.rows) == list(range(len(candidates.items)))


def test_a_cap_holds_while_others_are_left_and_never_shortens_a_list(
    candidates: Candidates,
) -> None:
    policy = Capped(0.1, window=50)
    lists = [policy.choose(candidates, K).rows for _ in range(50)]
    shown = Counter(row for each in lists for row in each)
    assert max(shown.values()) == 5  # 500 places, 100 candidates
    assert len(shown) == DEPTH
    np.testing.assert_array_equal(lists[0], Greedy().choose(candidates, K).rows)
    tight = Capped(0.01, window=50)
    spent = [tight.choose(candidates, K).rows for _ in range(30)]
    assert {len(set(each)) for each in spent} == {K}
    assert max(Counter(row for each in spent for row in each).values()) == 3  # evenly worn
    policy.choose(candidates._replace(facts=None), K)  # another index: counted anew
    np.testing.assert_array_equal(policy.choose(candidates, K).rows, lists[0])


@pytest.mark.parametrize(
    "setting", ["", "mmr", "mmr:", "mmr:x", "mmr:1.1", "mmr:-1", "mmr:nan", "cap:0", "best:0.5"]
)
def test_a_wrong_setting_is_told(setting: str) -> None:
    with pytest.raises(ConfigError, match="a list is greedy, mmr:S"):
        list_policy(setting)


def test_calibration_needs_genres(candidates: Candidates) -> None:
    assert candidates.facts is not None
    bare = candidates.facts._replace(genres=np.zeros((ITEMS, 0)))
    check_facts(list_policy("calibrated:0.1"), candidates.facts)
    check_facts(list_policy("mmr:0.1"), bare)
    with pytest.raises(ConfigError, match="has no genres"):
        check_facts(list_policy("calibrated:0.1"), bare)

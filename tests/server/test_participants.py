"""Who is asked in a round: a uniform draw without replacement that repeats, or everybody."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from common.config import DataConfig, FederationConfig, PrivacyConfig, RunConfig
from server.participants import count, participants


def config(sites: int, drawn: int, seed: int = 0) -> RunConfig:
    return RunConfig(
        data=DataConfig(sites=sites),
        privacy=PrivacyConfig(mode="local"),
        federation=FederationConfig(sites_per_round=drawn, min_sites=1, seed=seed),
    )


@given(st.integers(1, 300), st.integers(0, 300), st.integers(0, 5), st.integers(0, 3))
def test_a_draw_is_of_the_nodes_without_replacement_and_repeats(
    sites: int, drawn: int, server_round: int, seed: int
) -> None:
    nodes, drawn = range(1001, 1001 + sites), min(drawn, sites)
    chosen = participants(nodes, config(sites, drawn, seed), server_round)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(nodes)
    assert len(chosen) == (drawn or sites)
    shuffled = iter(list(reversed(nodes)))  # the order in which a grid names them says nothing
    assert participants(shuffled, config(sites, drawn, seed), server_round) == chosen


def test_rounds_and_seeds_draw_anew() -> None:
    nodes = range(100_000)
    first = participants(nodes, config(100_000, 100), 1)
    assert first != participants(nodes, config(100_000, 100), 2)
    assert first != participants(nodes, config(100_000, 100, seed=1), 1)


def test_every_site_is_drawn_equally_often() -> None:
    rounds, sites, drawn = 3000, 10, 3
    counts = Counter(
        node for r in range(rounds) for node in participants(range(sites), config(sites, drawn), r)
    )
    # 900 expected, standard deviation 25: the seed is fixed, so this cannot fail by chance.
    assert all(abs(counts[node] - rounds * drawn / sites) < 100 for node in range(sites))


def test_nodes_are_counted_without_a_list() -> None:
    assert count(range(10**12)) == 10**12
    assert count(iter([3, 4])) == 2

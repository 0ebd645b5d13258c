from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError
from common.secagg.graph import neighbours
from common.secagg.round_spec import RoundSpec
from tests.secagg_federation import make_spec, site_names


@st.composite
def possible_specs(draw: st.DrawFn) -> RoundSpec:
    sites = draw(st.one_of(st.integers(3, 120), st.just(1000)))
    dropouts = draw(st.integers(0, (sites - 1) // 2))
    colluders = draw(st.integers(0, max(0, sites - 2 * dropouts - 2)))
    return make_spec(sites, dropouts, colluders)


@given(possible_specs())
def test_thresholds_hold_for_every_possible_round(spec: RoundSpec) -> None:
    n, d, c = len(spec.participants), spec.max_dropouts, spec.max_colluders
    assert spec.share_threshold > c  # colluders alone never reconstruct
    assert spec.degree - d >= spec.share_threshold  # dropouts never prevent it
    assert 2 * spec.min_survivors > n + c  # two sets never both get enough signatures
    assert spec.degree >= d + c + 1 or spec.degree == n - 1


@given(st.integers(33, 200), st.integers(0, 40), st.integers(0, 20), st.integers(0, 100))
def test_the_graph_is_regular_symmetric_and_survives_what_it_must(
    sites: int, dropouts: int, colluders: int, seed: int
) -> None:
    dropouts = min(dropouts, (sites - 1) // 3)
    colluders = min(colluders, sites - 2 * dropouts - 2)
    spec = make_spec(sites, dropouts, colluders)
    names = list(spec.participants)
    graph = neighbours(names, spec.degree, seed.to_bytes(4, "big"))
    assert {len(around) for around in graph.values()} == {spec.degree}
    assert all(name not in around for name, around in graph.items())
    assert all(name in graph[other] for name, around in graph.items() for other in around)
    rng = random.Random(seed)
    start = rng.choice(names)
    # The worst choice of sites to lose: as much as possible of one neighbourhood, then others.
    lost = sorted(graph[start], key=lambda _: rng.random())[: dropouts + colluders]
    assert connected(graph, set(names) - set(lost))


def connected(graph: Mapping[str, frozenset[str]], left: set[str]) -> bool:
    seen, waiting = set(), [next(iter(left))]
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting.extend(graph[at] & left)
    return seen == left


def test_the_graph_depends_on_the_seed_and_not_on_the_order() -> None:
    names = list(site_names(50))
    graph = neighbours(names, 12, b"a")
    assert neighbours(names[::-1], 12, b"a") == graph
    assert neighbours(names, 12, b"b") != graph
    with pytest.raises(ValueError, match="even"):
        neighbours(names, 11, b"a")


def test_up_to_32_sites_everybody_is_a_neighbour() -> None:
    assert make_spec(32, 3).degree == 31
    assert make_spec(33, 3).degree == 12
    assert make_spec(1000, 0).degree == 20


@pytest.mark.parametrize(
    "changed",
    [{"run": b"other"}, {"server_round": 2}, {"config_hash": b"\1" * 32}, {"max_dropouts": 2},
     {"max_colluders": 2}, {"length": 21}, {"modulus_bits": 41}, {"participants": site_names(11)}],
)  # fmt: skip
def test_everything_is_in_the_context(changed: dict[str, Any]) -> None:
    plain, again = make_spec(10, 1, 1), make_spec(10, 1, 1)
    assert plain.context == again.context
    fields: dict[str, Any] = {"max_dropouts": 1, "max_colluders": 1, **changed}
    other = make_spec(10, **fields)
    assert other.context != plain.context
    same = other.context_without_config == plain.context_without_config
    assert same == ("config_hash" in changed)


@pytest.mark.parametrize(
    "changed",
    [{"participants": site_names(2)}, {"participants": ("b", "a", "c")},
     {"participants": ("a", "a", "b")}, {"participants": ("", "a", "b")}, {"max_dropouts": 5},
     {"max_dropouts": 4, "max_colluders": 2}, {"max_colluders": 9}, {"server_round": -1},
     {"config_hash": b""}, {"length": 0}, {"modulus_bits": 64}],
)  # fmt: skip
def test_rounds_without_guarantee_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        make_spec(10, **changed)

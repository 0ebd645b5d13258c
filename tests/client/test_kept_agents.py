"""Of many agents a process keeps those asked last, within its bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client.kept_agents import KeptAgents


def test_an_agent_is_made_once_while_it_is_kept() -> None:
    kept = KeptAgents[list[int]](lambda _agent: 1, max_bytes=2)
    first = kept.get("a", lambda: [1])
    assert kept.get("a", lambda: [2]) is first
    kept.get("b", lambda: [3])
    kept.get("a", list)  # asked again: "b" is now the oldest
    kept.get("c", lambda: [4])
    assert kept.get("a", lambda: [9]) is first
    assert kept.get("b", lambda: [5]) == [5]
    kept.clear()
    assert len(kept) == 0
    assert kept.get("a", lambda: [6]) == [6]


def test_the_last_one_is_kept_however_large() -> None:
    kept = KeptAgents[int](lambda agent: agent, max_bytes=10)
    kept.get("small", lambda: 3)
    assert kept.get("large", lambda: 1000) == 1000
    assert len(kept) == 1
    assert kept.get("large", lambda: 0) == 1000


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=60),
    st.integers(1, 40),
    st.integers(0, 5),
)
def test_the_bounds_hold_after_every_question(
    asked: list[tuple[int, int]], max_bytes: int, at_most: int
) -> None:
    kept = KeptAgents[tuple[int, int]](lambda agent: agent[1], max_bytes=max_bytes)
    alive: dict[int, int] = {}
    for name, size in asked:
        found = kept.get(name, lambda name=name, size=size: (name, size), at_most=at_most)
        alive.pop(name, None)
        alive[name] = found[1]
        while len(alive) > 1 and (
            sum(alive.values()) > max_bytes or (at_most and len(alive) > at_most)
        ):
            del alive[next(iter(alive))]
        assert len(kept) == len(alive)

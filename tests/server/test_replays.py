"""A time that a node has signed counts once."""

from __future__ import annotations

from server.replays import KEPT_S, SignedTimes


def test_a_signed_time_counts_once_for_each_site() -> None:
    times = SignedTimes()
    assert times.take("north", "2026-01-01T00:00:00.000001")
    assert not times.take("north", "2026-01-01T00:00:00.000001")
    assert times.take("south", "2026-01-01T00:00:00.000001")
    assert times.take("north", "2026-01-01T00:00:00.000002")


def test_what_the_superlink_did_not_accept_was_not_used() -> None:
    times = SignedTimes()
    assert times.take("north", "now")
    times.give_back("north", "now")
    assert times.take("north", "now")


def test_what_the_superlink_would_no_longer_take_is_forgotten() -> None:
    now = [0.0]
    times = SignedTimes(lambda: now[0])
    assert times.take("north", "a")
    now[0] = KEPT_S - 1
    assert not times.take("north", "a")
    assert times.take("north", "b")
    now[0] = KEPT_S + 1
    assert times.take("north", "c")
    assert list(times._taken) == [("north", "b"), ("north", "c")]

"""A time that a node has signed counts once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from server.replays import FAST_CLOCK_S, KEPT_S, SignedTimes

STARTED = datetime(2026, 1, 1, tzinfo=UTC)


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
    times = SignedTimes(clock=lambda: now[0])
    assert times.take("north", "a")
    now[0] = KEPT_S - 1
    assert not times.take("north", "a")
    assert times.take("north", "b")
    now[0] = KEPT_S + 1
    assert times.take("north", "c")
    assert list(times._taken) == [("north", "b"), ("north", "c")]


@pytest.mark.parametrize(
    ("after_s", "may_be_known"),
    [(-300.0, True), (0.0, True), (FAST_CLOCK_S, True), (FAST_CLOCK_S + 1e-6, False)],
)
def test_a_gate_that_was_started_anew_takes_no_time_from_before(
    after_s: float, may_be_known: bool
) -> None:
    signed = (STARTED + timedelta(seconds=after_s)).isoformat()
    assert SignedTimes(STARTED).may_be_known(signed) is may_be_known
    assert SignedTimes(STARTED).may_be_known(signed.removesuffix("+00:00")) is may_be_known
    assert not SignedTimes().may_be_known(signed)


def test_what_is_no_time_is_left_to_the_superlink() -> None:
    assert not SignedTimes(STARTED).may_be_known("yesterday")

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PrivacyError, UnknownEventError
from common.privacy_events import (
    ComposedEvent,
    DistributedGaussianEvent,
    GaussianEvent,
    PrivacyEvent,
    SampledGaussianEvent,
    event_from_dict,
    event_to_dict,
    merge_events,
)

sigmas = st.floats(0.01, 1e6)
simple_events = st.one_of(
    st.builds(GaussianEvent, sigmas, st.integers(1, 1000)),
    st.builds(SampledGaussianEvent, sigmas, st.floats(1e-6, 1.0), st.integers(1, 1000)),
    st.builds(
        DistributedGaussianEvent,
        st.integers(4, 2**40),
        st.integers(1, 1000),
        st.floats(1.0, 1e9),
        st.integers(1, 10**6),
        st.floats(1e-6, 1.0),
        st.integers(1, 1000),
    ),
)
events = st.recursive(
    simple_events,
    lambda inner: st.builds(ComposedEvent, st.lists(inner, max_size=4).map(tuple)),
    max_leaves=8,
)


@given(events)
def test_event_survives_json(event: PrivacyEvent) -> None:
    assert event_from_dict(json.loads(json.dumps(event_to_dict(event)))) == event


@given(st.lists(events, max_size=6), st.randoms(use_true_random=False))
def test_merging_depends_on_neither_order_nor_nesting(
    history: list[PrivacyEvent], random: object
) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merge_events(shuffled) == merge_events(history)
    assert merge_events([ComposedEvent(tuple(history))]) == merge_events(history)
    assert merge_events(merge_events(history)) == merge_events(history)


@given(st.lists(simple_events, max_size=6))
def test_merging_conserves_the_number_of_releases(
    history: list[GaussianEvent | SampledGaussianEvent],
) -> None:
    def releases(some: object) -> int:
        return sum(getattr(e, "count", 0) + getattr(e, "steps", 0) for e in some)  # type: ignore[attr-defined]

    assert releases(merge_events(history)) == releases(history)


def test_sampling_everybody_is_a_plain_gaussian() -> None:
    merged = merge_events([SampledGaussianEvent(2.0, 1.0, 3), GaussianEvent(2.0)])
    assert merged == (GaussianEvent(2.0, 4),)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"event": "laplace", "scale": 1.0},
        {"event": "gaussian", "noise_multiplier": 1.0},
        {"event": "gaussian", "noise_multiplier": "1", "count": 1},
        {"event": "gaussian", "noise_multiplier": 1.0, "count": 1.5},
        {"event": "gaussian", "noise_multiplier": 1.0, "count": 1, "discount": 0.5},
        {"event": "composed", "events": ["gaussian"]},
        {"event": "composed", "events": [{"event": "laplace"}]},
    ],
)
def test_unknown_event_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(UnknownEventError, match="no theorem accounts for"):
        event_from_dict(value)


def test_unknown_event_in_a_history_is_refused() -> None:
    with pytest.raises(UnknownEventError, match="laplace"):
        merge_events(["laplace"])  # type: ignore[list-item]
    with pytest.raises(UnknownEventError, match="laplace"):
        event_to_dict("laplace")  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_noise_multiplier_must_be_positive_and_finite(sigma: float) -> None:
    with pytest.raises(PrivacyError, match="noise_multiplier"):
        GaussianEvent(sigma)
    with pytest.raises(PrivacyError, match="noise_multiplier"):
        SampledGaussianEvent(sigma, 0.1, 1)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_sample_rate_must_be_a_probability(rate: float) -> None:
    with pytest.raises(PrivacyError, match="sample_rate"):
        SampledGaussianEvent(1.0, rate, 1)


@pytest.mark.parametrize("count", [0, -1, 1.0, True])
def test_counts_must_be_whole(count: int) -> None:
    with pytest.raises(PrivacyError, match="count"):
        GaussianEvent(1.0, count)
    with pytest.raises(PrivacyError, match="steps"):
        SampledGaussianEvent(1.0, 0.5, count)

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.adapters import Adapter
from common.errors import FederationError, MessageError
from server.aggregation import WeightedSum, l2_norm, weighted_mean

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = st.lists(hnp.arrays(np.float32, 3, elements=FLOATS), min_size=1, max_size=6)


def named(vectors: list[Any]) -> dict[str, Adapter]:
    return {f"site-{i:04d}": {"w": vector} for i, vector in enumerate(vectors)}


def test_the_mean_by_hand() -> None:
    updates = named([np.array([1, 2, 3], np.float32), np.array([4, 8, -3], np.float32)])
    mean = weighted_mean(updates, {"site-0000": 1, "site-0001": 2})
    np.testing.assert_array_equal(mean["w"], np.array([3, 6, -1], np.float32))
    assert mean["w"].dtype == np.float32


@given(VECTORS, st.data())
@settings(deadline=None)
def test_the_mean_is_the_exact_mean_rounded_once(vectors: list[Any], data: st.DataObject) -> None:
    updates = named(vectors)
    weights = {site: data.draw(st.integers(1, 10**6)) for site in updates}
    mean = weighted_mean(updates, weights)["w"]
    for i in range(3):
        exact = sum(Fraction(float(updates[s]["w"][i])) * weights[s] for s in updates)
        expected = float(exact / sum(weights.values()))
        # one rounding to float64 per division, one to float32
        assert mean[i] == np.float32(expected) or math.isclose(
            float(mean[i]), expected, rel_tol=2**-23
        )


@given(VECTORS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_arrival_cannot_show(vectors: list[Any], random: Any) -> None:
    updates = named(vectors)
    shuffled = list(updates)
    random.shuffle(shuffled)
    total = WeightedSum()
    for site in shuffled:
        total.add(site, updates[site], 3)
    expected = weighted_mean(updates, dict.fromkeys(updates, 3))
    assert total.mean()["w"].tobytes() == expected["w"].tobytes()


def test_cancellation_keeps_the_small_term() -> None:
    # plain float64 sums lose the 1e-20 in one of the two orders
    big, small = np.array([1e20], np.float32), np.array([1.0], np.float32)
    for order in ([big, small, -big], [small, big, -big]):
        total = WeightedSum()
        for i, vector in enumerate(order):
            total.add(f"s{i}", {"w": vector}, 1)
        assert total.totals()["w"][0] == 1.0


@given(VECTORS)
@settings(deadline=None)
def test_equal_updates_average_to_themselves(vectors: list[Any]) -> None:
    updates = named([vectors[0]] * 3)
    mean = weighted_mean(updates, dict.fromkeys(updates, 5))
    np.testing.assert_array_equal(mean["w"], vectors[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_update_is_refused_and_changes_nothing(value: float) -> None:
    total = WeightedSum()
    total.add("a", {"w": np.ones(2, np.float32)}, 1)
    with pytest.raises(FederationError, match="not finite"):
        total.add("b", {"w": np.array([0, value], np.float32)}, 1)
    np.testing.assert_array_equal(total.mean()["w"], np.ones(2, np.float32))
    assert list(total.weights) == ["a"]


def test_a_site_counts_once() -> None:
    total = WeightedSum()
    total.add("a", {"w": np.ones(2, np.float32)}, 1)
    with pytest.raises(FederationError, match="second update"):
        total.add("a", {"w": np.ones(2, np.float32)}, 1)


def test_other_tensors_and_weights_below_one_are_refused() -> None:
    total = WeightedSum()
    total.add("a", {"w": np.ones(2, np.float32)}, 1)
    with pytest.raises(MessageError):
        total.add("b", {"w": np.ones(3, np.float32)}, 1)
    with pytest.raises(FederationError, match="weight"):
        total.add("c", {"w": np.ones(2, np.float32)}, 0)
    assert list(total.weights) == ["a"]


def test_nothing_has_no_mean() -> None:
    with pytest.raises(FederationError, match="nothing to average"):
        WeightedSum().mean()


def test_the_joint_norm() -> None:
    adapter: Adapter = {"a": np.array([3.0], np.float32), "b": np.array([[4.0]], np.float32)}
    assert l2_norm(adapter) == 5.0

"""Co-occurrence: one unit moves it by at most 1, whatever its history is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.cooccurrence import (
    LAG_FLOOR,
    cell_count,
    cooccurrence_sum,
    related_items,
    triangle_size,
    unpacked,
)
from common.errors import ConfigError, MessageError
from common.holdout import ItemSequence, UserSplit
from common.privacy_units import Unit, make_units

V = 12
HISTORY = st.lists(st.integers(0, V - 1), min_size=1, max_size=30)
ITEMS = st.permutations(range(V)).flatmap(
    lambda order: st.integers(1, V).map(lambda n: np.array(order[:n], dtype=np.int64))
)
HALF_LIFE = st.floats(0.1, 1000.0)


def unit(items: list[int], first_target: int = 0) -> Unit:
    array = np.array(items, dtype=np.int64)
    return Unit("u", array, np.ones(len(items), np.float32), np.unique(array), first_target)


@st.composite
def any_unit(draw: st.DrawFn) -> Unit:
    """A user or an example, with repeated items, one item, or none that is counted."""
    items = draw(HISTORY)
    return unit(items, draw(st.sampled_from([0, len(items) - 1])))


@given(any_unit(), ITEMS, HALF_LIFE)
def test_the_triangle_of_one_unit_has_norm_at_most_one(
    one: Unit, items: np.ndarray, half_life: float
) -> None:
    triangle = cooccurrence_sum([one], items, V, half_life=half_life, bounded=True)
    assert triangle.shape == (triangle_size(len(items)),)
    assert np.isfinite(triangle).all()
    assert np.linalg.norm(triangle) <= 1.0


@given(st.lists(any_unit(), min_size=1, max_size=6), st.data(), ITEMS, HALF_LIFE)
def test_a_unit_more_or_less_moves_the_sum_by_at_most_one(
    units: list[Unit], data: st.DataObject, items: np.ndarray, half_life: float
) -> None:
    gone = data.draw(st.integers(0, len(units) - 1))
    left = units[:gone] + units[gone + 1 :]
    whole, without = (
        cooccurrence_sum(some, items, V, half_life=half_life, bounded=True)
        for some in (units, left)
    )
    assert np.linalg.norm(whole - without) <= 1.0 + 1e-12


def test_a_history_without_a_counted_item_adds_nothing_and_none_at_all_is_zero() -> None:
    items = np.array([7, 8])
    for units in ([unit([1, 2, 1])], []):
        triangle = cooccurrence_sum(units, items, V, half_life=20.0, bounded=True)
        assert triangle.tolist() == [0.0, 0.0, 0.0]


@given(HISTORY, ITEMS, HALF_LIFE)
def test_the_exact_statistic_is_the_matrix_of_all_ordered_pairs(
    history: list[int], items: np.ndarray, half_life: float
) -> None:
    expected = np.zeros((V, V))
    for i, one in enumerate(history):
        for j, other in enumerate(history):
            expected[one, other] += (2 ** (-abs(i - j) / half_life) + LAG_FLOOR) / (1 + LAG_FLOOR)
    triangle = cooccurrence_sum([unit(history)], items, V, half_life=half_life, bounded=False)
    matrix = unpacked(triangle, len(items))
    np.testing.assert_allclose(matrix, expected[np.ix_(items, items)], atol=1e-9)


@given(HISTORY, HALF_LIFE)
def test_the_examples_of_a_user_make_up_the_user(history: list[int], half_life: float) -> None:
    array = np.array(history, dtype=np.int64)
    empty = ItemSequence(array[:0], np.ones(0, np.float32), array[:0])
    train = ItemSequence(array, np.ones(len(array), np.float32), np.arange(len(array)))
    split = UserSplit("u", train, empty, empty)
    user, examples = (
        cooccurrence_sum(
            make_units([split], max_history=50, unit=each),
            np.arange(V),
            V,
            half_life=half_life,
            bounded=False,
        )
        for each in ("user", "example")
    )
    np.testing.assert_allclose(examples, user, atol=1e-9)


def test_the_most_popular_items_are_related_ties_by_index() -> None:
    prior = np.array([0.5, 2.0, 0.5, 2.0, -1.0], dtype=np.float32)
    assert related_items(prior, 5, 3).tolist() == [1, 3, 0]
    assert related_items(prior, 5, 0).tolist() == [0, 1, 2, 3, 4]
    assert related_items(prior, 5, 9).tolist() == [0, 1, 2, 3, 4]
    assert cell_count(5, 3) == 6


def test_another_catalogue_or_too_large_a_one_is_refused() -> None:
    with pytest.raises(MessageError, match="over 4 items, this site's catalogue has 5"):
        related_items(np.zeros(4, np.float32), 5, 3)
    with pytest.raises(ConfigError, match=r"5000 items; set model\.item_to_item_items to at most"):
        related_items(np.zeros(5000, np.float32), 5000, 0)

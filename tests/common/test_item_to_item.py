"""The item-to-item component: weights from the statistic, and what they add to a score."""

from __future__ import annotations

import numpy as np
import pytest

from common.cooccurrence import unpacked
from common.errors import MessageError
from common.item_to_item import (
    HALF_LIVES,
    HISTORY_FLOOR,
    NO_WEIGHTS,
    ItemToItem,
    history_weights,
    item_to_item,
    item_weights,
)

N = 6
UPPER = np.triu_indices(N)


def counts(seed: int = 0) -> np.ndarray:
    """A positive definite statistic of N items."""
    histories = np.random.default_rng(seed).random((40, N)) < 0.4
    return (histories.T.astype(float) @ histories)[UPPER]


def matrix(weights: np.ndarray) -> np.ndarray:
    return unpacked(weights, N)


def test_without_noise_the_weights_are_ease_with_both_sides_scaled_alike() -> None:
    gram = matrix(counts())
    weights = matrix(item_weights(counts(), N, ridge=2.0, deviation=0.0))
    # EASE: item j's column solves a ridge regression of j on all other items (no inverse of G).
    level = 2.0 * np.trace(gram) / N
    ease = np.zeros((N, N))
    for j in range(N):
        rest = [i for i in range(N) if i != j]
        ease[rest, j] = np.linalg.solve(
            gram[np.ix_(rest, rest)] + level * np.eye(N - 1), gram[rest, j]
        )
    geometric = np.sign(ease) * np.sqrt(ease * ease.T)
    expected = geometric / np.sqrt(np.mean(geometric**2))
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    assert np.mean(weights**2) == pytest.approx(1.0, rel=1e-5)


def test_with_noise_the_weights_are_what_pairs_have_above_their_totals() -> None:
    noise = np.random.default_rng(3).normal(size=len(UPPER[0]))
    pairs = matrix(counts() + noise)
    np.fill_diagonal(pairs, 0.0)
    pairs[2] = pairs[:, 2] = 0.0  # an item whose total is lost in the noise
    totals = [max(sum(row), 1.0) for row in pairs]
    expected = np.array(
        [[pairs[i, j] - totals[i] * totals[j] / sum(totals) for j in range(N)] for i in range(N)]
    )
    np.fill_diagonal(expected, 0.0)
    expected /= np.sqrt(np.mean(expected**2))
    weights = matrix(item_weights(pairs[UPPER], N, ridge=4.0, deviation=1.0))
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize("deviation", [0.0, 1.0])
def test_a_statistic_of_nothing_gives_weights_that_add_nothing(deviation: float) -> None:
    weights = item_weights(np.zeros(len(UPPER[0])), N, ridge=4.0, deviation=deviation)
    assert np.isfinite(weights).all()
    if deviation == 0.0:
        assert not weights.any()


def test_noise_alone_gives_finite_weights() -> None:
    noise = np.random.default_rng(1).normal(size=len(UPPER[0]))
    weights = item_weights(noise, N, ridge=4.0, deviation=1.0)
    assert np.isfinite(weights).all()


def test_what_is_added_to_a_score_is_as_computed_by_hand() -> None:
    # Items 3 and 1 of four are related; the history is 0 (not related), 3, 1, oldest first.
    component = ItemToItem(
        items=np.array([3, 1]),
        weights=np.array([[0.0, 2.0], [2.0, 0.0]], dtype=np.float32),
        catalogue_size=4,
        weight=0.5,
    )
    profiles = np.array([[2 ** (-age / h) for age in (2, 1, 0)] for h in HALF_LIVES])
    recency = (profiles / profiles.sum(axis=1, keepdims=True)).mean(axis=0) + HISTORY_FLOOR / 3
    scores = component.scores([np.array([0, 3, 1]), np.array([], int)])
    expected = [0.0, 0.5 * recency[1] * 2.0, 0.0, 0.5 * recency[2] * 2.0]
    np.testing.assert_allclose(scores[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(scores[1], np.zeros(4))


def test_no_weights_are_no_component() -> None:
    assert item_to_item(NO_WEIGHTS, np.zeros(5, np.float32), most=3, weight=1.0) is None


def test_the_weights_of_a_history_have_a_fixed_sum_and_the_newest_most() -> None:
    for length in (1, 2, 50, 700):
        weights = history_weights(length)
        assert weights.sum() == pytest.approx(1 + HISTORY_FLOOR, rel=1e-4)
        assert (np.diff(weights) >= 0).all()
        assert length == 1 or weights[-1] > weights[-2]
    assert len(history_weights(0)) == 0


def test_a_component_is_between_the_items_of_largest_prior() -> None:
    prior = np.array([0.1, 3.0, 2.0], dtype=np.float32)
    triangle = np.array([0.0, 1.0, 0.0], dtype=np.float32)
    component = item_to_item(triangle, prior, most=2, weight=1.0)
    assert component is not None
    assert component.items.tolist() == [1, 2]
    assert component.weights.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    with pytest.raises(MessageError, match="have 3 cells, 3 items need 6"):
        item_to_item(triangle, prior, most=0, weight=1.0)

"""Re-ranking against popularity: identity, monotony, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DataError
from common.reranking import penalise_popularity

NOTHING = [np.array([], dtype=np.int64)]


def order(scores: np.ndarray) -> list[int]:
    return [int(item) for item in np.argsort(-scores[0], kind="stable")]


def test_popular_items_make_way_by_hand() -> None:
    scores = np.array([[4.0, 3.0, 2.0, 1.0]], np.float32)
    prior = np.array([9.0, 0.0, 0.0, -9.0], np.float32)
    found = penalise_popularity(scores, NOTHING, prior, 1.0)
    assert order(found) == [3, 1, 2, 0]
    assert sorted(found[0]) == sorted(scores[0])


def test_items_beyond_the_depth_keep_their_places() -> None:
    scores = np.array([[4.0, 3.0, 2.0, 1.0]], np.float32)
    prior = np.array([9.0, 0.0, -9.0, -99.0], np.float32)
    assert order(penalise_popularity(scores, NOTHING, prior, 5.0, depth=2)) == [1, 0, 2, 3]


def test_history_is_no_candidate_and_stays_as_it_was() -> None:
    scores = np.array([[9.0, 3.0, 2.0, np.nan]], np.float32)
    prior = np.array([-9.0, 9.0, 0.0, 0.0], np.float32)
    found = penalise_popularity(scores, [np.array([0])], prior, 1.0, depth=2)
    assert found[0, 0] == 9
    assert found[0, 2] > found[0, 1]
    assert scores[0, 1] == 3  # the given scores are not touched


@given(st.integers(0, 2**32 - 1), st.floats(0, 3), st.floats(0, 3))
def test_more_strength_never_shows_more_popular_items(seed: int, one: float, other: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, 30)).astype(np.float32)
    prior = rng.normal(size=30).astype(np.float32)
    histories = [rng.permutation(30)[:5] for _ in range(2)]

    def popularity(strength: float) -> np.ndarray:
        found = penalise_popularity(scores, histories, prior, strength, depth=15)
        for row, history in enumerate(histories):
            found[row, history] = -np.inf
        best = np.argsort(-found, axis=1)[:, :5]
        return prior[best].sum(axis=1)

    weaker, stronger = sorted((one, other))
    assert (popularity(stronger) <= popularity(weaker) + 1e-4).all()


@given(st.integers(0, 2**32 - 1))
def test_no_strength_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, 20)).astype(np.float32)
    found = penalise_popularity(scores, [*NOTHING, *NOTHING], scores[0], 0.0)
    np.testing.assert_array_equal(found, scores)


@pytest.mark.parametrize(("strength", "items"), [(-1.0, 3), (float("inf"), 3), (1.0, 2)])
def test_wrong_strength_or_prior(strength: float, items: int) -> None:
    with pytest.raises(DataError, match=r"evaluation\.exposure_penalty"):
        penalise_popularity(
            np.zeros((1, 3), np.float32), NOTHING, np.zeros(items, np.float32), strength
        )

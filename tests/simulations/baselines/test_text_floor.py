"""The text floor: similarity by hand, recency, and what the release contributes."""

from __future__ import annotations

import numpy as np
import pytest

from common.holdout import UserSplit, hold_out
from simulations.baselines import (
    TextFloor,
    choose_text_floor,
    dp_popularity_metrics,
    text_floor_metrics,
    text_floor_scorer,
)
from simulations.synthetic import GENRE_WORDS, synthetic_dataset

NO_POPULARITY = np.ones(4)
# Two directions: items 0 and 1 are alike, and so are 2 and 3.
VECTORS = np.array([[1, 0], [1, 0], [-1, 0], [-1, 0]], dtype=np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_items_like_the_history_score_higher_and_an_item_is_not_like_itself() -> None:
    constants = TextFloor(similarity_weight=2.0, half_lives=(1.0,))
    [scores] = text_floor_scorer(VECTORS, NO_POPULARITY, 1.0, constants)([ints(0)])
    assert scores == pytest.approx([0, 2, -2, -2])


def test_the_last_item_weighs_most() -> None:
    constants = TextFloor(similarity_weight=1.0, half_lives=(1.0,))
    [scores] = text_floor_scorer(VECTORS, NO_POPULARITY, 1.0, constants)([ints(0, 2)])
    # Weights 1/3 (item 0) and 2/3 (item 2).
    assert scores == pytest.approx([-2 / 3, 1 / 3 - 2 / 3, -1 / 3, 2 / 3 - 1 / 3])


def test_only_the_window_is_read_and_an_empty_history_leaves_popularity() -> None:
    constants = TextFloor(half_lives=(5.0,), window=1)
    release = np.array([9.0, 1.0, 4.0, 1.0])
    scorer = text_floor_scorer(VECTORS, release, 1.0, constants)
    long, short, empty = scorer([ints(0, 0, 2), ints(2), ints()])
    assert long == pytest.approx(short)
    assert np.argsort(-empty).tolist()[:2] == [0, 2]
    assert empty.mean() == pytest.approx(0, abs=1e-6)


def test_negative_releases_are_as_good_as_none() -> None:
    scorer = text_floor_scorer(VECTORS, np.array([5.0, -3.0, 0.0, 1.0]), 1.0, TextFloor())
    [scores] = scorer([ints()])
    assert np.isfinite(scores).all()
    assert scores[1] == scores[2]


@pytest.fixture(scope="module")
def example() -> tuple[list[UserSplit], np.ndarray]:
    dataset = synthetic_dataset(users=300, items=80, seed=2)
    words = [word for group in GENRE_WORDS.values() for word in group]
    texts = [text.lower() for text in dataset.catalogue.texts]
    vectors = np.array([[word in text for word in words] for text in texts], dtype=np.float32)
    splits = hold_out(dataset.interactions, dataset.catalogue, split="leave_one_out", seed=0)
    return splits, vectors


def test_text_adds_to_dp_popularity_where_texts_carry_signal(
    example: tuple[list[UserSplit], np.ndarray],
) -> None:
    splits, vectors = example
    floor = text_floor_metrics(
        vectors, splits, "test", epsilon=8, delta=1e-4, form="central", sites=1
    )
    popularity = dp_popularity_metrics(
        splits, len(vectors), "test", epsilon=8, delta=1e-4, form="central", sites=1
    )
    # The gap is .0575 ± .0026 over draws of the noise: 6.7 deviations, false alarm below 1e-10.
    assert floor.ndcg_10.mean() > popularity.ndcg_10.mean() + 0.04


def test_texts_of_other_items_add_nothing(example: tuple[list[UserSplit], np.ndarray]) -> None:
    splits, vectors = example
    shuffled = np.random.default_rng(0).permutation(vectors)
    right, wrong = (
        text_floor_metrics(v, splits, "test", epsilon=8, delta=1e-4, form="central", sites=1)
        for v in (vectors, shuffled)
    )
    assert wrong.ndcg_10.mean() < right.ndcg_10.mean() - 0.05


def test_the_weight_is_chosen_from_the_grid(
    example: tuple[list[UserSplit], np.ndarray],
) -> None:
    splits, vectors = example
    chosen = choose_text_floor(
        vectors, splits, epsilon=8, delta=1e-4, form="central", sites=1, grid=(0.0, 6.0)
    )
    assert chosen.similarity_weight == 6.0

"""ItemKNN: cosine similarities, the nearest items alone, k chosen without the test part."""

from __future__ import annotations

import numpy as np
import pytest

from common.holdout import UserSplit, hold_out
from simulations.baselines import choose_item_knn
from simulations.baselines.item_knn import item_knn_scorer, item_similarities
from simulations.synthetic import synthetic_dataset

ITEMS = 40


@pytest.fixture(scope="module")
def splits() -> list[UserSplit]:
    dataset = synthetic_dataset(users=50, items=ITEMS, seed=1)
    return hold_out(dataset.interactions, dataset.catalogue, split="leave_one_out", seed=0)


def test_similarities_are_cosines_of_train_users(splits: list[UserSplit]) -> None:
    seen = np.zeros((len(splits), ITEMS + 1))
    for row, split in enumerate(splits):
        seen[row, split.train.items] = 1
    unit = seen / np.maximum(np.linalg.norm(seen, axis=0), 1e-12)
    expected = unit.T @ unit
    np.fill_diagonal(expected, 0)
    found = item_similarities(splits, ITEMS + 1)  # the last item has no user
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_item_listens_to_its_nearest_items_alone() -> None:
    similarity = np.array([[0, 0.9, 0.5], [0.9, 0, 0.1], [0.5, 0.1, 0]], dtype=np.float32)
    history = [np.array([1, 2])]
    assert item_knn_scorer(similarity, 3)(history)[0].tolist() == pytest.approx([1.4, 0.1, 0.1])
    assert item_knn_scorer(similarity, 1)(history)[0].tolist() == pytest.approx([0.9, 0, 0])


def test_the_choice_does_not_look_at_test(splits: list[UserSplit]) -> None:
    _, chosen = choose_item_knn(splits, ITEMS, (2, 10, 39))
    blind = [UserSplit(s.user_id, s.train, s.validation, s.validation) for s in splits]
    assert choose_item_knn(blind, ITEMS, (2, 10, 39))[1] == chosen

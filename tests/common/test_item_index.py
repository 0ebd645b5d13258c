"""The index gives the recommender's own scores, for every kind of head and term."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from common.cooccurrence import triangle_size
from common.item_index import build_index
from common.item_to_item import item_to_item
from common.new_items import NewItemRule
from common.requests import Requests
from tests.training_case import DATASET, moved_recommender, small_config

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ITEMS = len(DATASET.catalogue)
HISTORIES = [
    np.array([], dtype=np.int64),
    np.array([3], dtype=np.int64),
    np.random.default_rng(1).permutation(ITEMS)[:40].astype(np.int64),
]
HEADS = [
    {"head": "bilinear", "head_items": 20, "head_matrix": "symmetric"},
    {"head": "bilinear", "head_items": 20, "head_matrix": "per_lag"},
    {"head": "multi_lag", "score_terms": "trained", "context": "user,time"},
]


@pytest.mark.parametrize("model", HEADS, ids=["symmetric", "per lag", "multi-lag, context"])
def test_scores_are_the_recommender_s(model: dict[str, Any]) -> None:
    recommender = moved_recommender(small_config({"max_history": 25, **model}))
    prior = recommender.item_prior.numpy()
    triangle = np.random.default_rng(2).normal(size=triangle_size(30)).astype(np.float32)
    recommender.set_item_to_item(item_to_item(triangle, prior, most=30, weight=1.4))
    asked = requests(HISTORIES)
    wanted = recommender.score_all(asked)
    index = build_index(recommender)
    for row, scores in enumerate(wanted):
        np.testing.assert_allclose(index.scores(asked[row : row + 1]), scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(index.scores_of_item(asked, 7), wanted[:, 7], rtol=1e-4, atol=1e-4)


def test_an_index_stays_as_it_was_when_the_recommender_loads_something_else() -> None:
    recommender = moved_recommender(small_config({"head_items": 20}))
    index = build_index(recommender)
    before = index.scores(HISTORIES[2:])
    with torch.no_grad():
        for parameter in recommender.head.parameters():
            parameter.add_(1.0)
    recommender.keep_table_for("another")
    recommender.set_item_prior(torch.zeros(ITEMS))
    assert np.array_equal(index.scores(HISTORIES[2:]), before)


def test_a_new_item_is_scored_by_its_text_alone() -> None:
    recommender = moved_recommender(small_config({"head_items": 20, "item_to_item_items": 20}))
    recommender.set_item_prior(torch.arange(float(ITEMS)) / 100)  # the last items have codes
    triangle = np.ones(triangle_size(20), dtype=np.float32)
    component = item_to_item(triangle, recommender.item_prior.numpy(), most=20, weight=1.0)
    recommender.set_item_to_item(component)
    old = 4  # without a code: what tells it from its new twin is the prior, linear with weight w
    index = build_index(recommender, recommender.table()[old : old + 1], NewItemRule())
    scores = index.scores([np.array([ITEMS, 60, 8], dtype=np.int64)])  # a new item in the history
    prior = recommender.score.prior.weight.item() * 0.04
    assert len(scores) == ITEMS + 1
    assert scores[ITEMS] == pytest.approx(scores[old] - prior, abs=1e-4)


def requests(histories: list[np.ndarray[Any, Any]]) -> Requests:
    count = len(histories)
    moments = np.arange(count, dtype=np.int64) * 100_000 + 900_000_000
    return Requests(histories, moments, moments - 3_600, [{"gender": "F", "age": "30"}] * count)

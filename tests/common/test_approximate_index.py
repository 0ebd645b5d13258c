"""Candidates of a large catalogue: exact scores, full lists, and files that may be damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.approximate_index import ApproximateIndex
from common.cooccurrence import triangle_size
from common.item_index import ItemIndex, build_index
from common.item_to_item import item_to_item
from tests.training_case import DATASET, moved_recommender, small_config

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

HISTORY = [np.array([3, 60, 8, 41], dtype=np.int64)]
ITEMS = len(DATASET.catalogue)


@pytest.fixture(scope="module")
def index() -> ItemIndex:
    recommender = moved_recommender(small_config({"head_items": 20}))
    triangle = np.random.default_rng(2).normal(size=triangle_size(30)).astype(np.float32)
    component = item_to_item(triangle, recommender.item_prior.numpy(), most=30, weight=1.4)
    recommender.set_item_to_item(component)
    return build_index(recommender)


def test_candidates_have_their_exact_scores(index: ItemIndex, tmp_path: Path) -> None:
    large = index.for_large_catalogues(ITEMS - 1, tmp_path)
    items, scores = large.best(HISTORY, 5)
    assert large.approximate is not None
    assert np.array_equal(items, np.unique(items))
    np.testing.assert_allclose(scores, index.scores(HISTORY)[items], rtol=1e-5, atol=1e-5)


def test_a_small_catalogue_is_scored_whole(index: ItemIndex) -> None:
    small = index.for_large_catalogues(ITEMS, None)
    items, scores = small.best(HISTORY, 5)
    assert small.approximate is None
    assert np.array_equal(items, np.arange(ITEMS))
    assert np.array_equal(scores, index.scores(HISTORY))


def test_items_with_weights_of_their_own_are_always_candidates(index: ItemIndex) -> None:
    large = index.for_large_catalogues(0, None)
    assert index.item_to_item is not None
    assert large.approximate is not None
    assert set(index.item_to_item.items) <= set(large.approximate.always)
    query = np.zeros(index.vectors.shape[1], dtype=np.float32)
    assert set(large.approximate.always) <= set(large.approximate.candidates(query, 1))


def test_a_list_is_full_even_where_too_few_candidates_are_found(index: ItemIndex) -> None:
    large = index.for_large_catalogues(0, None)
    assert large.approximate is not None
    few = _Few(large.approximate.found, large.approximate.columns, large.approximate.always)
    items, _ = replace(large, approximate=few).best(HISTORY, 5)
    assert len(items) == ITEMS


def test_an_index_is_kept_and_a_damaged_one_is_built_anew(
    index: ItemIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "items"
    first = index.for_large_catalogues(0, folder).best(HISTORY, 5)
    (path,) = folder.iterdir()
    whole, written = path.read_bytes(), path.stat().st_ino
    again = index.for_large_catalogues(0, folder).best(HISTORY, 5)
    assert path.stat().st_ino == written  # read, not written
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    mended = index.for_large_catalogues(0, folder).best(HISTORY, 5)
    assert "is damaged; the index is built anew" in caplog.text
    assert path.stat().st_ino != written
    for items, scores in (again, mended):
        assert np.array_equal(items, first[0])
        assert np.array_equal(scores, first[1])


class _Few(ApproximateIndex):
    def candidates(self, query: np.ndarray, count: int) -> np.ndarray:  # type: ignore[type-arg]
        return HISTORY[0]

"""Metrics of users: hand-computed values and agreement with LensKit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lenskit.data import ItemList
from lenskit.metrics import NDCG, Hit, RecipRank
from lenskit.metrics.ranking import LogRankWeight

from common.errors import DataError
from common.metrics import METRIC_NAMES, MetricSums, user_metrics


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_one_target_by_hand() -> None:
    metrics = user_metrics([ints(1), ints(3), ints(15), ints(21)])
    assert metrics["hr_10"].tolist() == [1, 1, 0, 0]
    assert metrics["hr_20"].tolist() == [1, 1, 1, 0]
    assert metrics["ndcg_10"] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert metrics["ndcg_20"] == pytest.approx([1.0, 0.5, 0.25, 0.0])
    assert metrics["mrr"] == pytest.approx([1, 1 / 3, 1 / 15, 1 / 21])


def test_several_targets_by_hand() -> None:
    metrics = user_metrics([ints(12, 3)])
    ideal = 1 + 1 / math.log2(3)
    assert metrics["hr_10"].tolist() == [1]
    assert metrics["ndcg_10"] == pytest.approx([0.5 / ideal])
    assert metrics["ndcg_20"] == pytest.approx([(0.5 + 1 / math.log2(13)) / ideal])
    assert metrics["mrr"] == pytest.approx([1 / 3])


def test_ideal_list_is_cut_at_k() -> None:
    metrics = user_metrics([np.arange(1, 31, dtype=np.int64)])
    assert metrics["ndcg_10"] == pytest.approx([1.0])
    assert metrics["ndcg_20"] == pytest.approx([1.0])


def test_a_user_without_target_is_an_error() -> None:
    with pytest.raises(DataError, match="position 1 has no held-out target"):
        user_metrics([ints(1), ints()])


def test_no_users_give_empty_metrics_and_nan_means() -> None:
    metrics = user_metrics([])
    assert set(metrics) == set(METRIC_NAMES)
    sums = MetricSums.from_users(metrics)
    assert sums == MetricSums.zero()
    assert all(math.isnan(value) for value in sums.means().values())


def test_sums_add_up_over_sites() -> None:
    ranks = [ints(1), ints(3), ints(15), ints(2, 30)]
    whole = MetricSums.from_users(user_metrics(ranks))
    parts = [
        MetricSums.from_users(user_metrics(ranks[:1])),
        MetricSums.from_users(user_metrics(ranks[1:])),
    ]
    assert (parts[0] + parts[1]).users == whole.users == 4
    assert (parts[0] + parts[1]).means() == pytest.approx(whole.means())
    assert whole + MetricSums.zero() == whole
    assert whole.means()["hr_10"] == pytest.approx(0.75)


@given(st.lists(st.sets(st.integers(1, 40), min_size=1, max_size=15), min_size=1, max_size=4))
def test_agrees_with_lenskit(places: list[set[int]]) -> None:
    """LensKit's default NDCG discounts rank 2 by log2(2) = 1; offset=1 is the usual one."""
    listed = ItemList(item_ids=np.arange(1, 41), ordered=True)
    metrics = user_metrics([np.array(sorted(row), dtype=np.int64) for row in places])
    for user, row in enumerate(places):
        truth = ItemList(item_ids=np.array(sorted(row)))
        for k in (10, 20):
            ndcg = NDCG(k, weight=LogRankWeight(offset=1)).measure_list(listed, truth)
            assert metrics[f"ndcg_{k}"][user] == pytest.approx(ndcg)
            assert metrics[f"hr_{k}"][user] == Hit(k).measure_list(listed, truth)
        assert metrics["mrr"][user] == pytest.approx(RecipRank().measure_list(listed, truth))

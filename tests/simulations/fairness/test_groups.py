"""Group utility, gaps and inequality: hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.age_bands import age_band
from common.errors import DataError
from simulations.evaluation.full_ranking import PerUser
from simulations.fairness.groups import (
    POOLED,
    attribute_labels,
    group_reports,
    group_utility,
    pool_small_groups,
    user_gini,
)


def per_user(user_ids: tuple[str, ...], ndcg: list[float]) -> PerUser:
    values, zero = np.array(ndcg), np.zeros(len(ndcg))
    return PerUser(user_ids, zero, zero, values, zero, zero, ())


def test_groups_by_hand() -> None:
    utility = np.array([0.2, 0.4, 0.6, 0.1, 0.3])
    report = group_utility("gender", ["M", "M", "M", "F", "F"], utility)
    assert [(g.group, g.n) for g in report.groups] == [("M", 3), ("F", 2)]
    assert [g.utility.mean for g in report.groups] == pytest.approx([0.4, 0.2])
    assert report.gap.mean == pytest.approx(0.2)
    assert report.ratio == pytest.approx(0.5)
    assert report.worst_group == "F"
    assert report.gap.low < 0.2 < report.gap.high
    assert report.groups[0].utility.low < 0.4 < report.groups[0].utility.high


def test_gap_has_no_interval_where_the_extreme_groups_were_picked_by_looking() -> None:
    report = group_utility("age", ["a", "a", "b", "b", "c", "c"], np.arange(6.0))
    assert report.gap.mean == pytest.approx(4.0)
    assert math.isnan(report.gap.low)


def test_no_group_is_served_at_all() -> None:
    report = group_utility("gender", ["M", "F", "M", "F"], np.zeros(4))
    assert math.isnan(report.ratio)
    assert report.gap.mean == 0


def test_labels_must_match_users() -> None:
    with pytest.raises(DataError, match="got 1 labels for 2 users"):
        group_utility("gender", ["M"], np.zeros(2))


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("7", "under 18"),
        ("18", "18-24"),
        ("24", "18-24"),
        ("25", "25-34"),
        ("44", "35-44"),
        ("49", "45-49"),
        ("55", "50-55"),
        ("56", "56 and over"),
        ("", "unknown"),
        ("x", "unknown"),
    ],
)
def test_age_bands(age: str, band: str) -> None:
    assert age_band(age) == band


def test_small_groups_are_pooled() -> None:
    assert pool_small_groups(["a"] * 3 + ["b", "c"], minimum=3) == ["a"] * 3 + [POOLED] * 2


def test_attributes_are_reported_gender_first() -> None:
    attributes = {
        "occupation": ["x"] * 30 + ["y"],
        "age": ["20"] * 31,
        "gender": ["M"] * 30 + [""],
        "zip": ["1"] * 31,
    }
    labels = attribute_labels(attributes)
    assert list(labels) == ["gender", "age", "occupation"]
    assert labels["gender"][-1] == "unknown"
    assert labels["occupation"][-1] == POOLED


def test_reports_follow_the_evaluated_users_not_their_order() -> None:
    metrics = per_user(("c", "a"), [1.0, 0.0])
    [report] = group_reports(metrics, ["a", "b", "c"], {"gender": ["F", "M", "M"]})
    assert {g.group: g.utility.mean for g in report.groups} == {"M": 1.0, "F": 0.0}


def test_an_unknown_user_is_an_error() -> None:
    with pytest.raises(DataError, match="'z' has no attributes"):
        group_reports(per_user(("z",), [1.0]), ["a"], {"gender": ["F"]})


def test_gini_by_hand() -> None:
    assert user_gini(np.array([1.0, 1.0, 1.0])) == pytest.approx(0)
    assert user_gini(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(0.75)
    assert user_gini(np.zeros(3)) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_gini_agrees_with_the_mean_absolute_difference(values: list[float]) -> None:
    utility = np.array(values)
    if utility.sum() < 1e-6:
        return
    pairs = np.abs(utility[:, None] - utility[None, :]).sum()
    expected = pairs / (2 * len(utility) * utility.sum())
    assert user_gini(utility) == pytest.approx(expected, abs=1e-9)

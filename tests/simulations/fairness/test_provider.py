"""Equal opportunity among providers: closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from simulations.fairness.provider import (
    ItemGroups,
    dispersion,
    equal_opportunity,
    genre_groups,
    popularity_groups,
)

GENRES = (("a",), ("a", "b"), ("b",), ("c",), ())


def rows(*values: list[int]) -> list[np.ndarray]:
    return [np.array(row, dtype=np.int64) for row in values]


def test_items_of_several_genres_count_in_each() -> None:
    groups = genre_groups(GENRES)
    assert groups.names == ("a", "b", "c")
    assert groups.member.sum(axis=0).tolist() == [2, 2, 1]
    assert not groups.member[4].any()


def test_thirds_of_the_catalogue_by_popularity() -> None:
    groups = popularity_groups(np.array([5, 1, 9, 0, 7, 2]))
    assert [np.flatnonzero(column).tolist() for column in groups.member.T] == [
        [1, 3],
        [0, 5],
        [2, 4],
    ]


def test_probabilities_by_hand() -> None:
    targets = rows([0, 1], [2, 4], [1])
    ranks = rows([1, 11], [10, 1], [3])
    report = equal_opportunity(ranks, targets, genre_groups(GENRES))
    assert report is not None
    # a: 0 hit, 1 missed, 1 hit; b: 1 missed, 2 hit, 1 hit; c: never relevant
    assert [(g.group, g.items, g.relevant) for g in report.groups] == [("a", 2, 3), ("b", 2, 3)]
    assert [g.probability.mean for g in report.groups] == pytest.approx([2 / 3, 2 / 3])
    assert report.dispersion.mean == pytest.approx(0)


def test_one_group_is_never_shown() -> None:
    groups = ItemGroups(("x", "y"), np.array([[True, False], [False, True]]))
    report = equal_opportunity(rows([1, 90]), rows([0, 1]), groups)
    assert report is not None
    assert [(g.group, g.probability.mean) for g in report.groups] == [("x", 1.0), ("y", 0.0)]
    assert report.dispersion.mean == pytest.approx(1)  # std ½ over mean ½


def test_nothing_is_shown_or_nothing_is_grouped() -> None:
    report = equal_opportunity(rows([50], [60]), rows([0], [1]), genre_groups(GENRES))
    assert report is not None
    assert report.dispersion.mean == 0
    assert equal_opportunity(rows([1]), rows([0]), genre_groups(((), ()))) is None


def test_dispersion_leaves_out_what_a_resample_lacks() -> None:
    shares = np.array([[0.2, 0.4, np.nan], [0.0, 0.0, 0.0], [np.nan] * 3])
    found = dispersion(shares)
    assert found[0] == pytest.approx(1 / 3)
    assert np.isnan(found[1:]).all()

"""Thirds of users, and sites: closed forms, and what chance alone gives."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import DataError
from simulations.fairness.niche import LENGTH_THIRDS, by_thirds
from simulations.fairness.sites import site_utility


def test_thirds_by_hand() -> None:
    trait = np.array([9.0, 1, 5, 2, 8, 4])
    utility = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.5])
    found = by_thirds(trait, utility, LENGTH_THIRDS)
    assert [g.group for g in found.groups] == list(LENGTH_THIRDS)
    assert [g.n for g in found.groups] == [2, 2, 2]
    assert [g.utility.mean for g in found.groups] == pytest.approx([0.2, 0.5, 0.8])
    assert found.gap.mean == pytest.approx(0.6)
    assert [found.gap.low, found.gap.high] == pytest.approx([0.4, 0.8])


def test_users_of_equal_trait_are_not_split_by_their_order() -> None:
    utility = np.repeat([0.0, 1.0], 300)
    found = by_thirds(np.zeros(600), utility, LENGTH_THIRDS)
    assert abs(found.gap.mean) < 0.3  # in file order it would be 1


def test_thirds_need_three_users() -> None:
    with pytest.raises(DataError, match="at least three users"):
        by_thirds(np.zeros(2), np.zeros(2), LENGTH_THIRDS)


def test_sites_by_hand() -> None:
    utility = np.array([0.2, 0.8, 0.4, 0.6])
    found = site_utility(["x", "y", "z"], np.array([2, 0, 2, 0]), utility)
    assert [(s.group, s.n) for s in found.sites] == [("x", 2), ("z", 2)]
    assert [s.utility.mean for s in found.sites] == pytest.approx([0.7, 0.3])
    assert found.worst_site == "z"
    assert found.spread.mean == pytest.approx(0.4)


def test_sites_that_differ_pass_the_band_of_chance_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    sites, utility = np.repeat(np.arange(5), 60), rng.random(300)
    names = [str(number) for number in range(5)]
    alike = site_utility(names, sites, utility)
    assert alike.chance.low < alike.spread.mean < alike.chance.high
    apart = site_utility(names, sites, utility + (sites == 3))
    assert apart.spread.mean > apart.chance.high
    assert apart.worst_site != "3"


def test_sites_need_a_site_per_user() -> None:
    with pytest.raises(DataError, match="2 sites for 3 users"):
        site_utility(["x"], np.zeros(2, np.int64), np.zeros(3))

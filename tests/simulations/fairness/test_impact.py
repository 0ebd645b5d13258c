"""What groups lose to privacy: closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import DataError
from simulations.evaluation.full_ranking import PerUser
from simulations.fairness.impact import disparate_impact, impact_by_attribute
from simulations.fairness.tables import impact_record


def per_user(users: tuple[str, ...], ndcg: list[float]) -> PerUser:
    zero = np.zeros(len(ndcg))
    return PerUser(users, zero, zero, np.array(ndcg), zero, zero, ())


def test_losses_by_hand() -> None:
    without = np.array([0.4, 0.6, 0.2, 0.2])
    private = np.array([0.3, 0.5, 0.1, 0.0])
    found = disparate_impact("gender", ["M", "M", "F", "F"], without, private)
    assert [(g.group, g.n) for g in found.groups] == [("F", 2), ("M", 2)]  # hardest hit first
    assert [g.loss.mean for g in found.groups] == pytest.approx([0.15, 0.1])
    assert [g.relative_loss.mean for g in found.groups] == pytest.approx([0.75, 0.2])
    assert found.spread.mean == pytest.approx(0.05)
    assert found.relative_spread.mean == pytest.approx(0.55)
    assert found.groups[1].loss.low == pytest.approx(0.1)  # both lost the same: pairs, not means


def test_privacy_that_costs_nothing_has_no_impact() -> None:
    utility = np.random.default_rng(0).random(50)
    found = disparate_impact("age", ["a", "b"] * 25, utility, utility)
    assert found.spread.mean == found.spread.low == found.spread.high == 0


def test_a_group_with_nothing_to_lose_has_no_relative_loss() -> None:
    found = disparate_impact("g", ["a", "a", "b", "b"], np.array([0, 0, 1.0, 1]), np.zeros(4))
    record = impact_record("fedrec (ε=1)", "fedrec (ε=∞)", 1.0, found)
    assert record.groups[0].group == "b"
    assert record.groups[0].relative_loss is not None
    assert record.groups[1].relative_loss is None
    assert record.relative_spread is None
    assert record.spread.mean == 1


def test_attributes_are_those_of_the_users() -> None:
    users = ("c", "a")
    [found] = impact_by_attribute(
        per_user(users, [1.0, 0.5]),
        per_user(users, [0.0, 0.5]),
        ["a", "b", "c"],
        {"gender": ["F", "M", "M"]},
    )
    assert {g.group: g.loss.mean for g in found.groups} == {"M": 1.0, "F": 0.0}


def test_the_same_users_twice() -> None:
    with pytest.raises(DataError, match="2 and 1 utilities"):
        disparate_impact("g", ["a", "b"], np.zeros(2), np.zeros(1))
    with pytest.raises(DataError, match="same known users"):
        impact_by_attribute(per_user(("a",), [1.0]), per_user(("b",), [1.0]), ["a", "b"], {})

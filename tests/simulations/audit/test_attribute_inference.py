"""Gender inference from lists: what is everybody's, and what is only the participants'."""

from __future__ import annotations

import numpy as np
import pytest

from common.config import DataConfig
from common.errors import DataError
from common.interactions import Dataset, Users
from simulations.audit.attacks.attribute_inference import (
    LENGTH,
    ListedUsers,
    difference,
    infer_gender,
    listed_users,
)
from simulations.synthetic import synthetic_dataset

ITEMS = 200


def listed(users: int, seed: int, telling: bool) -> ListedUsers:
    """Random lists; where they tell, each gender is shown its own half of the items."""
    rng = np.random.default_rng(seed)
    labels = tuple(rng.choice(["F", "M"], users, p=[0.3, 0.7]))
    half = [np.arange(ITEMS // 2) + ITEMS // 2 * (label == "M") for label in labels]
    pools = half if telling else [np.arange(ITEMS)] * users
    return ListedUsers(np.array([rng.permutation(pool)[:20] for pool in pools]), labels)


def test_what_participants_alone_give_away_is_the_difference() -> None:
    everybody = infer_gender(listed(300, 0, True), listed(300, 1, True), ITEMS, 0).statistic
    assert everybody["participants_accuracy"] == everybody["others_accuracy"] == 1
    assert everybody["difference"] == 0
    nobody = infer_gender(listed(300, 2, False), listed(300, 3, False), ITEMS, 0).statistic
    assert nobody["participants_auc_low"] < 0.5 < nobody["participants_auc_high"]
    assert nobody["difference_low"] < 0 < nobody["difference_high"]
    # The attacker knows how lists tell, and of the held-out users only some do.
    told = listed(150, 4, True)
    silent = listed(150, 5, False)
    mixed = ListedUsers(np.concatenate([told.lists, silent.lists]), told.labels + silent.labels)
    members = infer_gender(listed(300, 6, True), mixed, ITEMS, 0).statistic
    assert members["difference_low"] > 0.05


def test_it_is_reported_and_decides_nothing() -> None:
    found = infer_gender(listed(300, 0, True), listed(300, 1, True), ITEMS, 0)
    assert (found.gate, found.verdict, found.refutes) == (False, "not_testable", False)
    assert "no ε bounds inference about a population" in found.reason
    assert f"majority {found.statistic['others_majority']:.3f}" in found.reason
    few = infer_gender(listed(300, 0, True), listed(30, 1, True), ITEMS, 0)
    assert (few.statistic, few.verdict) == ({}, "not_testable")


def test_a_difference_has_agresti_and_caffos_interval() -> None:
    found = difference([True] * 7 + [False] * 3, [True] * 4 + [False] * 6)
    assert found.value == pytest.approx(0.3)
    middle = 8 / 12 - 5 / 12
    half = 1.959964 * np.sqrt((8 * 4 + 5 * 7) / 12**3)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half))


def without(data: Dataset, **attributes: tuple[str, ...]) -> Dataset:
    users = Users(data.users.user_ids, attributes)
    return Dataset(data.name, data.catalogue, data.interactions, users, data.report, data.licence)


def test_lists_are_those_of_users_with_a_known_gender() -> None:
    data = synthetic_dataset(12, 80)
    genders = ("unknown", *data.users.attributes["gender"][1:])

    def popular(histories: object) -> np.ndarray:
        return np.tile(np.arange(80, dtype=np.float32), (len(histories), 1))

    config = DataConfig(dataset="synthetic")
    found = listed_users(popular, without(data, gender=genders), config)
    assert found.labels == genders[1:]
    assert found.lists.shape == (11, LENGTH)
    assert (found.indicators(80).sum(1) <= LENGTH).all()
    history = data.interactions.item[data.interactions.user == 1]
    shown = set(found.lists[0].tolist())
    assert len(shown & set(history.tolist())) <= 1  # its test item may be shown
    with pytest.raises(DataError, match="no gender"):
        listed_users(popular, without(data), config)

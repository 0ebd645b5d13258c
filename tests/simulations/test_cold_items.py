"""Cold items: out of training for good, ranked by text, averaged over items."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import DataError
from common.holdout import hold_out
from simulations.cold_items import (
    LEAST_HISTORY,
    among,
    cold_events,
    draw_cold_items,
    evaluate_cold,
    known_items,
    without_items,
)
from simulations.synthetic import synthetic_dataset


@pytest.fixture(scope="module")
def data():
    return synthetic_dataset()


@pytest.fixture(scope="module")
def cold(data):
    return draw_cold_items(data, 0.15, seed=3)


def test_two_disjoint_sets_of_the_asked_size(data, cold):
    assert len(cold.validation) == len(cold.test) == 12
    assert len(cold.all) == 24
    assert set(cold.all.tolist()) != set(draw_cold_items(data, 0.15, seed=4).all.tolist())
    again = draw_cold_items(data, 0.15, seed=3)
    assert again.test.tolist() == cold.test.tolist()


@pytest.mark.parametrize("share", [0.0, 0.5, -0.1])
def test_a_share_that_leaves_nothing_is_refused(data, share):
    with pytest.raises(DataError, match="use a share above 0 and below 0.5"):
        draw_cold_items(data, share, seed=0)


def test_training_knows_nothing_of_cold_items(data, cold):
    warm = without_items(data, cold.all, 3)
    names = {data.catalogue.item_ids[item] for item in cold.all}
    assert not names & set(warm.catalogue.item_ids)
    assert len(warm.catalogue) == len(data.catalogue) - len(cold.all)
    old, new = data.interactions, warm.interactions
    pairs = {
        (old.user_ids[u], data.catalogue.item_ids[i])
        for u, i in zip(old.user, old.item, strict=True)
        if data.catalogue.item_ids[i] not in names
    }
    kept = {
        (new.user_ids[u], warm.catalogue.item_ids[i])
        for u, i in zip(new.user, new.item, strict=True)
    }
    assert kept == pairs
    assert warm.users.user_ids == new.user_ids
    hold_out(new, warm.catalogue, split="leave_one_out", seed=0)


def test_users_with_too_little_left_are_left_out(data, cold):
    lengths = np.bincount(data.interactions.user[~np.isin(data.interactions.item, cold.all)])
    least = int(np.median(lengths))
    warm = without_items(data, cold.all, least)
    expected = [data.interactions.user_ids[u] for u in np.flatnonzero(lengths >= least)]
    assert list(warm.interactions.user_ids) == expected
    ages = dict(zip(data.users.user_ids, data.users.attributes["age"], strict=True))
    assert list(warm.users.attributes["age"]) == [ages[user] for user in expected]


def test_an_event_shows_what_came_before_and_no_cold_item(data, cold):
    events = cold_events(data, cold, cold.test, seed=0)
    chronological = {
        split.user_id: np.concatenate([split.train.items, split.validation.items, split.test.items])
        for split in hold_out(data.interactions, data.catalogue, split="leave_one_out", seed=0)
    }
    assert {int(event.test.items[0]) for event in events} <= set(cold.test.tolist())
    for event in events:
        whole = chronological[event.user_id].tolist()
        before = whole[: whole.index(event.test.items[0])]
        shown = [item for item in before if item not in set(cold.all.tolist())]
        assert event.train.items.tolist() == shown
        assert len(shown) >= LEAST_HISTORY
        assert len(event.validation) == 0


def test_figures_are_means_over_items(data, cold):
    events = cold_events(data, cold, cold.test, seed=0)
    best = int(events[0].test.items[0])

    def one_item_first(histories):
        scores = np.zeros((len(histories), len(data.catalogue)), dtype=np.float32)
        scores[:, best] = 1
        return scores

    found = evaluate_cold(one_item_first, events)
    assert found.events == len(events)
    assert found.hr_10.tolist() == [float(item == best) for item in found.items]
    assert found.ndcg_10.mean() == pytest.approx(1 / len(found.items))


def test_among_leaves_other_items_out(data, cold):
    events = cold_events(data, cold, cold.test, seed=0)

    def others_first(histories):
        scores = np.ones((len(histories), len(data.catalogue)), dtype=np.float32)
        scores[:, cold.test] = np.arange(len(cold.test)) / 100
        return scores

    assert evaluate_cold(others_first, events).hr_10.sum() == 0
    ranked = evaluate_cold(among(others_first, cold.test), events)
    expected = np.searchsorted(cold.test, ranked.items) >= len(cold.test) - 10
    assert ranked.hr_10.tolist() == expected.astype(float).tolist()


def test_known_items_are_the_rest_in_order(cold, data):
    known = known_items(cold.all, len(data.catalogue))
    assert sorted([*known, *cold.all]) == list(range(len(data.catalogue)))

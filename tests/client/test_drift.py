"""What drift is seen, and what is not taken for it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from client.drift import Drift, Timeline, measure_drift, psi
from common.errors import DataError
from common.recommender import Recommender

ITEMS, USERS, MOMENT = 40, 120, 1000


class _Model:
    """Scores every history by fixed scores; the text of an item is its own direction."""

    def __init__(self, scores: Any) -> None:
        self.item_prior = torch.zeros(ITEMS)
        self._scores = scores

    def table(self) -> torch.Tensor:
        return torch.eye(ITEMS)

    def score_all(self, histories: Any) -> Any:
        return np.tile(self._scores, (len(histories), 1)).astype(np.float32)


def _users(rng: np.random.Generator, after: Any) -> list[Timeline]:
    """Twelve items each, eight of them before; those `after` are drawn by other weights."""
    before = np.arange(ITEMS, 0, -1.0) ** 2
    users = []
    for _ in range(USERS):
        old = rng.choice(ITEMS, 8, replace=False, p=before / before.sum())
        weight = np.where(np.isin(np.arange(ITEMS), old), 0.0, after)
        new = rng.choice(ITEMS, 4, replace=False, p=weight / weight.sum())
        times = np.concatenate([np.arange(8), MOMENT + np.arange(4)])
        users.append(Timeline(np.concatenate([old, new]), times, {}))
    return users


def _measured(after: Any) -> Drift:
    model = cast(Recommender, _Model(np.arange(ITEMS, 0, -1.0)))
    return measure_drift(model, _users(np.random.default_rng(0), after), MOMENT)


def test_a_turn_of_taste_is_seen() -> None:
    found = _measured(np.arange(1.0, ITEMS + 1) ** 4)  # what was popular is not any more
    assert found.popularity_psi > 1
    assert found.popularity_distance > 0.5
    assert found.text_shift > 0.3
    assert found.hit_now < found.hit_before
    assert "retraining is worth it: the hit rate fell" in found.advice
    assert "other items are popular" in found.advice


def test_more_of_the_same_is_not() -> None:
    rng = np.random.default_rng(1)
    users = [
        Timeline(rng.permutation(ITEMS)[:12], np.append(np.arange(11), MOMENT), {})
        for _ in range(400)
    ]
    found = measure_drift(cast(Recommender, _Model(rng.random(ITEMS))), users, MOMENT)
    assert (found.old, found.new, found.new_users) == (4400, 400, 400)
    assert found.popularity_psi < 0.1
    assert found.hit_drop < 1.96


def test_little_is_new() -> None:
    users = [Timeline(np.arange(4), np.array([1, 2, 3, MOMENT]), {}) for _ in range(5)]
    found = measure_drift(cast(Recommender, _Model(np.zeros(ITEMS))), users, MOMENT)
    assert "too little is new" in found.advice
    with pytest.raises(DataError, match="--since"):
        measure_drift(cast(Recommender, _Model(np.zeros(ITEMS))), users, MOMENT + 1)


def test_psi_of_chance_alone_is_about_zero_and_of_a_shift_what_it_is() -> None:
    rng = np.random.default_rng(2)
    share = np.full(10, 0.1)
    draws = [(rng.multinomial(500, share), rng.multinomial(300, share)) for _ in range(200)]
    found = [psi(first * 1.0, second * 1.0) for first, second in draws]
    assert np.mean(found) < 0.02
    p, q = np.array([0.5, 0.5]), np.array([0.7, 0.3])
    exact = float(((q - p) * np.log(q / p)).sum())
    assert psi(p * 1e6, q * 1e6) == pytest.approx(exact, rel=1e-3)

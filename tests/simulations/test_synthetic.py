"""The synthetic data set: seeded, complete, and with the signal it promises."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import DataError
from common.holdout import hold_out
from simulations.synthetic import GENRE_WORDS, synthetic_dataset

DATA = synthetic_dataset()


def test_shape_and_attributes():
    assert len(DATA.interactions.user_ids) == 60
    assert len(DATA.catalogue) == 80
    assert set(DATA.users.attributes) == {"gender", "age", "occupation"}
    assert set(DATA.users.attributes["gender"]) == {"F", "M"}
    assert set(DATA.interactions.rating) == {1, 2, 3, 4, 5}
    assert np.bincount(DATA.interactions.user).min() >= 8
    assert DATA.report.rows_kept == DATA.report.rows_read


def test_same_seed_same_data():
    again, other = synthetic_dataset(), synthetic_dataset(seed=1)
    for name in ("user", "item", "rating", "timestamp"):
        assert np.array_equal(getattr(again.interactions, name), getattr(DATA.interactions, name))
    assert again.catalogue.sha256 == DATA.catalogue.sha256 != other.catalogue.sha256


def test_some_timestamps_are_tied():
    rows = DATA.interactions
    tied = (np.diff(rows.timestamp) == 0) & (np.diff(rows.user) == 0)
    assert 0.03 < tied.mean() < 0.2


def test_texts_name_their_genres():
    for text, genres in zip(DATA.catalogue.texts, DATA.catalogue.genres, strict=True):
        words = text.split(" (")[0].lower().split()
        assert {word for g in genres for word in GENRE_WORDS[g]} >= set(words)
        assert text.endswith(f"Genres: {', '.join(genres)}")


def test_the_last_items_tell_the_next_better_than_popularity_does():
    """Hits at 10 of "shares genres with the last items, then popular" against "popular"."""
    data = synthetic_dataset(users=300)
    names = sorted({g for genres in data.catalogue.genres for g in genres})
    genres = np.array([[g in row for g in names] for row in data.catalogue.genres], float)
    splits = hold_out(data.interactions, data.catalogue, split="leave_one_out", seed=0)
    popularity = np.bincount(np.concatenate([s.train.items for s in splits]), minlength=80)
    hits = {"recent": 0, "popular": 0}
    for split in splits:
        history = np.concatenate([split.train.items, split.validation.items])
        recent = genres @ genres[history[-3:]].sum(0) + popularity / popularity.max()
        for name, score in (("recent", recent), ("popular", popularity.astype(float))):
            score = score.copy()
            score[history] = -np.inf
            hits[name] += int((score >= score[split.test.items[0]]).sum() <= 10)
    assert hits["recent"] > 1.3 * hits["popular"]


def test_ratings_follow_taste_and_time_drifts():
    rows = DATA.interactions
    genres = [set(g) for g in DATA.catalogue.genres]
    pairs = [
        bool(genres[a] & genres[b])
        for a, b, same in zip(rows.item[:-1], rows.item[1:], np.diff(rows.user) == 0, strict=True)
        if same
    ]
    items = np.random.default_rng(0).integers(80, size=(4000, 2))
    base = np.mean([bool(genres[a] & genres[b]) for a, b in items])
    assert np.mean(pairs) > 2 * base


def test_too_small_is_an_error():
    with pytest.raises(DataError, match="at least 1 user and 30 items, got 0 and 80"):
        synthetic_dataset(users=0)

"""Which user goes where: disjoint, complete, seeded, and as skewed as asked."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import DataConfig
from common.errors import DataError
from common.interactions import build_dataset
from simulations.synthetic import synthetic_dataset
from simulations.user_partition import favourite_genres, partition_users, user_labels

DATA = synthetic_dataset()
KINDS = ("equal", "dirichlet", "size_skewed")


def config(**values):
    return DataConfig(dataset="synthetic", **values)


@settings(deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    sites=st.integers(1, 60),
    alpha=st.sampled_from([1e-300, 1e-3, 0.1, 1.0, 1e6]),
    seed=st.integers(0, 5),
)
def test_every_user_is_at_one_site_and_no_site_is_empty(kind, sites, alpha, seed):
    asked = config(partition=kind, sites=sites, partition_alpha=alpha, seed=seed)
    parts = partition_users(DATA, asked)
    assert len(parts) == sites
    assert min(map(len, parts)) >= 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(60))
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    again = partition_users(DATA, asked)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_equal_sizes_differ_by_at_most_one():
    sizes = [len(part) for part in partition_users(DATA, config(sites=7))]
    assert max(sizes) - min(sizes) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_changes_the_partition(kind):
    one, other = (
        partition_users(DATA, config(sites=5, seed=seed, partition=kind)) for seed in (0, 1)
    )
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_small_alpha_separates_groups_and_large_alpha_mixes_them():
    data = synthetic_dataset(users=600)
    labels = np.asarray(data.users.attributes["gender"])

    def spread(alpha: float) -> float:
        asked = config(sites=5, partition="dirichlet", partition_by="gender", partition_alpha=alpha)
        shares = [np.bincount(labels[p] == "F", minlength=2) for p in partition_users(data, asked)]
        counts = np.asarray(shares)  # [sites, 2]
        return float(np.abs(counts / counts.sum(0) - 1 / 5).max())

    assert spread(0.05) > 0.4
    assert spread(1000.0) < 0.15


def test_small_alpha_skews_sizes():
    def largest(alpha: float) -> int:
        asked = config(sites=5, partition="size_skewed", partition_alpha=alpha)
        return max(len(part) for part in partition_users(DATA, asked))

    assert largest(0.05) > 40
    assert largest(1e5) < 20


def test_favourite_genre_is_the_most_frequent():
    genres = DATA.catalogue.genres
    for user, favourite in enumerate(
        favourite_genres(DATA.interactions, DATA.catalogue, DATA.name)[:10]
    ):
        items = DATA.interactions.item[DATA.interactions.user == user]
        seen = [genre for item in items for genre in genres[item]]
        assert seen.count(favourite) == max(seen.count(genre) for genre in set(seen))


def test_more_sites_than_users():
    with pytest.raises(DataError, match=r"data\.sites=61 is more than the 60 users.*at most 60"):
        partition_users(DATA, config(sites=61))


def test_unknown_attribute_names_the_known_ones():
    with pytest.raises(DataError, match="use one of genre, age, gender, occupation"):
        user_labels(DATA.users, DATA.name, "planet")


def test_genre_needs_genres():
    rows = {"user_id": ["u"] * 3, "item_id": ["a", "b", "c"], "timestamp": [1, 2, 3]}
    items = pa.table({"item_id": ["a", "b", "c"], "text": ["A", "B", "C"]})
    data = build_dataset("plain", pa.table(rows), items, None, min_interactions=3)
    with pytest.raises(DataError, match="no item of plain has a genre"):
        favourite_genres(data.interactions, data.catalogue, data.name)

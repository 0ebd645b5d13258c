"""The temporal hold-out: conserved, disjoint, ordered, and independent of everything else."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import DataError
from common.holdout import UserSplit, hold_out, is_judged, train_lengths
from common.interactions import Catalogue, Interactions, build_dataset

SPLITS = ("leave_one_out", "last_fifth")
ITEMS = pa.table({"item_id": [f"i{n}" for n in range(40)], "text": ["film"] * 40})

histories = st.dictionaries(
    st.sampled_from([f"u{n}" for n in range(8)]),
    st.dictionaries(st.integers(0, 39), st.integers(0, 5), min_size=3, max_size=40),
    min_size=1,
    max_size=5,
)


def rows_of(histories: dict[str, dict[int, int]]) -> list[tuple[str, str, int]]:
    return [(u, f"i{i}", t) for u, seen in histories.items() for i, t in seen.items()]


def build(rows: list[tuple[str, str, int]]) -> tuple[Interactions, Catalogue]:
    columns = dict(zip(("user_id", "item_id", "timestamp"), zip(*rows, strict=True), strict=True))
    data = build_dataset("test", pa.table(columns), ITEMS, None, min_interactions=3)
    return data.interactions, data.catalogue


def split_rows(rows: list[tuple[str, str, int]], split: str, seed: int) -> list[UserSplit]:
    interactions, catalogue = build(rows)
    return hold_out(interactions, catalogue, split=split, seed=seed)


def as_lists(split: UserSplit) -> list[list[int]]:
    return [part.items.tolist() for part in (split.train, split.validation, split.test)]


@settings(deadline=None)
@given(histories=histories, split=st.sampled_from(SPLITS), seed=st.integers(0, 3))
def test_rows_are_conserved_disjoint_and_in_time(histories, split, seed):
    splits = split_rows(rows_of(histories), split, seed)
    assert [s.user_id for s in splits] == sorted(histories)
    for user in splits:
        parts = (user.train, user.validation, user.test)
        seen = histories[user.user_id]
        items = np.concatenate([part.items for part in parts])
        assert sorted(items.tolist()) == sorted(seen)
        times = np.concatenate([part.timestamps for part in parts])
        assert times.tolist() == sorted(seen.values())
        assert [seen[int(item)] for item in items] == times.tolist()
        assert all(len(part) >= 1 for part in parts)
        assert all(len(part) == len(part.ratings) == len(part.timestamps) for part in parts)


@settings(deadline=None)
@given(histories=histories, split=st.sampled_from(SPLITS), random=st.randoms())
def test_row_order_does_not_matter(histories, split, random):
    rows = rows_of(histories)
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = split_rows(rows, split, 0), split_rows(shuffled, split, 0)
    assert [as_lists(s) for s in one] == [as_lists(s) for s in other]


@settings(deadline=None)
@given(histories=histories, split=st.sampled_from(SPLITS))
def test_other_users_do_not_matter(histories, split):
    together = {s.user_id: as_lists(s) for s in split_rows(rows_of(histories), split, 0)}
    for user, seen in histories.items():
        (alone,) = split_rows(rows_of({user: seen}), split, 0)
        assert as_lists(alone) == together[user]


@settings(deadline=None)
@given(histories=histories, split=st.sampled_from(SPLITS), seed=st.integers(1, 5))
def test_the_seed_moves_ties_only(histories, split, seed):
    rows = rows_of(histories)
    for one, other in zip(split_rows(rows, split, 0), split_rows(rows, split, seed), strict=True):
        for a, b in zip(
            (one.train, one.validation, one.test), (other.train, other.validation, other.test),
            strict=True,
        ):  # fmt: skip
            assert a.timestamps.tolist() == b.timestamps.tolist()
    distinct = [(u, i, n) for n, (u, i, _) in enumerate(rows)]
    same = zip(split_rows(distinct, split, 0), split_rows(distinct, split, seed), strict=True)
    assert all(as_lists(a) == as_lists(b) for a, b in same)


def test_ties_follow_neither_item_ids_nor_rows():
    tied = [("u", f"i{n}", 7) for n in range(40)]
    last = {split_rows(tied, "leave_one_out", seed)[0].test.items[0] for seed in range(30)}
    assert len(last) > 10
    first = [split_rows(tied, "leave_one_out", seed)[0].train.items[0] for seed in range(30)]
    assert len(set(first)) > 10


def test_tie_order_is_the_documented_one():
    """A change of the hash would silently change every published figure."""
    tied = [("u", f"i{n}", 7) for n in range(6)]
    expected = sorted(
        range(6), key=lambda n: hashlib.sha256(f'[4, "u", "i{n}"]'.encode()).hexdigest()
    )
    train, validation, test = as_lists(split_rows(tied, "leave_one_out", 4)[0])
    assert train + validation + test == expected


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(3, (1, 1, 1)), (9, (7, 1, 1)), (10, (7, 1, 2)), (20, (14, 2, 4)), (39, (29, 3, 7))],
)
def test_last_fifth_sizes(n, sizes):
    rows = [("u", f"i{k}", k) for k in range(n)]
    assert tuple(len(part) for part in as_lists(split_rows(rows, "last_fifth", 0)[0])) == sizes


@settings(deadline=None)
@given(histories=histories, times=st.lists(st.integers(1, 6), min_size=2, max_size=2, unique=True))
def test_a_time_cut_is_the_same_for_all_users(histories, times):
    interactions, catalogue = build(rows_of(histories))
    cut = (min(times), max(times))
    splits = hold_out(interactions, catalogue, split="time_cut", seed=0, cut=cut)
    for user in splits:
        assert all(t < cut[0] for t in user.train.timestamps)
        assert all(cut[0] <= t < cut[1] for t in user.validation.timestamps)
        assert all(t >= cut[1] for t in user.test.timestamps)
        assert sum(map(len, as_lists(user))) == len(histories[user.user_id])
        assert is_judged(user, "validation") == (len(user.train) > 0 < len(user.validation))
    rows = (interactions.user, interactions.timestamp, len(splits))
    found = train_lengths(*rows, split="time_cut", cut=cut)
    assert found.tolist() == [len(user.train) for user in splits]


@settings(deadline=None)
@given(histories=histories, split=st.sampled_from(SPLITS))
def test_train_lengths_are_those_of_the_split(histories, split):
    interactions, catalogue = build(rows_of(histories))
    splits = hold_out(interactions, catalogue, split=split, seed=0)
    rows = (interactions.user, interactions.timestamp, len(splits))
    assert train_lengths(*rows, split=split, cut=None).tolist() == [len(s.train) for s in splits]


def test_a_time_cut_without_times_is_an_error():
    interactions, catalogue = build([("u", f"i{n}", n) for n in range(3)])
    with pytest.raises(DataError, match=r"set data\.validation_from and data\.test_from"):
        hold_out(interactions, catalogue, split="time_cut", seed=0)


def test_too_short_history_and_unknown_split_are_errors():
    interactions, catalogue = build([("u", f"i{n}", n) for n in range(3)])
    with pytest.raises(DataError, match="unknown split 'random'"):
        hold_out(interactions, catalogue, split="random", seed=0)
    short = Interactions(
        ("u",), *(a[:2] for a in (interactions.user, interactions.item)),
        interactions.rating[:2], interactions.timestamp[:2],
    )  # fmt: skip
    with pytest.raises(DataError, match="user 'u' has 2 interactions, a split needs 3"):
        hold_out(short, catalogue, split="leave_one_out", seed=0)

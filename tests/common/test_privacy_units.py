"""Bounded contributions: what a unit may put into one step, and what its sampler knows."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.holdout import ItemSequence, UserSplit
from common.privacy_units import Unit, collate, draw_contribution, draw_negatives, make_units


class NumpySource:
    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def integers(self, high: int, n: int) -> np.ndarray:
        return self.generator.integers(0, high, n)

    def permutation(self, n: int) -> np.ndarray:
        return self.generator.permutation(n)


def sequence(items: list[int]) -> ItemSequence:
    n = len(items)
    return ItemSequence(
        np.array(items, dtype=np.int64), np.full(n, 4.0, np.float32), np.arange(n, dtype=np.int64)
    )


def unit(items: list[int]) -> Unit:
    array = np.array(items, dtype=np.int64)
    return Unit("u", array, np.full(len(items), 4.0, np.float32), np.unique(array))


def test_units_come_from_training_items_only() -> None:
    split = UserSplit("u", sequence([5, 3, 9]), sequence([7]), sequence([8]))
    (made,) = make_units([split], max_history=2)
    assert made.items.tolist() == [5, 3, 9]
    assert made.positives.tolist() == [3, 5, 9]


def test_long_histories_are_cut_but_all_positives_are_known() -> None:
    split = UserSplit("u", sequence(list(range(20))), sequence([30]), sequence([31]))
    (made,) = make_units([split], max_history=4)
    assert made.items.tolist() == [15, 16, 17, 18, 19]
    assert len(made.positives) == 20


def test_a_user_without_training_items_is_no_unit() -> None:
    assert (
        make_units([UserSplit("u", sequence([]), sequence([1]), sequence([2]))], max_history=5)
        == []
    )


def test_each_training_interaction_is_an_example_with_its_history() -> None:
    split = UserSplit("u", sequence([5, 3, 9, 5]), sequence([7]), sequence([8]))
    made = make_units([split, split], max_history=2, unit="example")
    assert [each.items.tolist() for each in made[:4]] == [[5], [5, 3], [5, 3, 9], [3, 9, 5]]
    assert [each.items.tolist() for each in made[4:]] == [each.items.tolist() for each in made[:4]]
    for each in made:
        assert each.first_target == len(each.items) - 1
        assert each.positives.tolist() == sorted(set(each.items.tolist()))
        assert each.counted.tolist() == [each.items[-1]]
        assert len(each.ratings) == len(each.items)


@given(length=st.integers(1, 12), more=st.integers(1, 5), max_history=st.integers(1, 6))
def test_an_example_depends_on_nothing_that_came_later(
    length: int, more: int, max_history: int
) -> None:
    def examples(n: int) -> list[Unit]:
        split = UserSplit("u", sequence(list(range(n))), sequence([30]), sequence([31]))
        return make_units([split], max_history=max_history, unit="example")

    short, long = examples(length), examples(length + more)
    assert len(short) == length
    for left, right in zip(short, long, strict=False):
        assert left.items.tolist() == right.items.tolist()
        assert left.positives.tolist() == right.positives.tolist()


@settings(max_examples=40)
@given(length=st.integers(1, 12), targets=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_only_the_last_item_of_an_example_is_a_target(length: int, targets: int, seed: int) -> None:
    split = UserSplit("u", sequence(list(range(length))), sequence([20]), sequence([21]))
    example = make_units([split], max_history=8, unit="example")[-1]
    c = draw_contribution(
        example,
        catalogue_size=30,
        targets=targets,
        negatives=50,
        lora_rows=4,
        source=NumpySource(seed),
    )
    assert c.positions.tolist() == [len(example.items) - 1]
    assert c.candidates[c.target_columns].tolist() == [length - 1]
    batch = collate([c], max_history=8)
    assert batch.history_mask.sum() == min(len(example.items), 8)
    # What the user saw outside the example may be drawn: the sampler does not know it.
    negatives = set(c.candidates.tolist()) - {length - 1}
    assert not negatives & set(example.items.tolist())


@given(
    positives=st.sets(st.integers(0, 39), min_size=1, max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
def test_negatives_are_never_training_positives(positives: set[int], seed: int) -> None:
    drawn = draw_negatives(unit(sorted(positives)), 40, 50, NumpySource(seed))
    assert ((drawn >= 0) & (drawn < 40)).all()
    if len(positives) < 40:
        assert not set(drawn.tolist()) & positives


def test_negatives_are_uniform_over_all_other_items_held_out_ones_included() -> None:
    # Held-out items are unknown to the unit: every non-positive item must be drawn alike.
    drawn = draw_negatives(unit([0, 4, 5, 9]), 10, 60_000, NumpySource(1))
    counts = np.bincount(drawn, minlength=10)
    assert counts[[0, 4, 5, 9]].sum() == 0
    others = counts[[1, 2, 3, 6, 7, 8]]
    # 10,000 expected each, standard deviation 91: 5 deviations, false alarm < 4e-6.
    assert np.abs(others - 10_000).max() < 460


@settings(max_examples=60)
@given(
    items=st.lists(st.integers(0, 29), min_size=1, max_size=25, unique=True),
    targets=st.integers(1, 12),
    negatives=st.integers(1, 20),
    lora_rows=st.integers(0, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_contribution_is_bounded_and_consistent(
    items: list[int], targets: int, negatives: int, lora_rows: int, seed: int
) -> None:
    source = unit(items)
    c = draw_contribution(
        source,
        catalogue_size=30,
        targets=targets,
        negatives=negatives,
        lora_rows=lora_rows,
        source=NumpySource(seed),
    )
    m = min(targets, len(items))
    assert len(c.positions) == len(set(c.positions.tolist())) == m
    assert len(c.candidates) == m + negatives
    assert (c.candidates[c.target_columns] == source.items[c.positions]).all()
    assert len(c.live_scale) <= lora_rows
    # Inverse inclusion shares: the live columns stand for all targets and all negatives.
    live_targets = int((c.target_columns < len(c.live_scale)).sum())
    if live_targets:
        assert np.isclose(c.live_scale[:live_targets].sum(), m)
    if len(c.live_scale) > live_targets:
        assert np.isclose(c.live_scale[live_targets:].sum(), negatives)


def test_collate_pads_without_letting_padding_count() -> None:
    short, long = unit([3]), unit([1, 2, 3, 4])
    drawn = [
        draw_contribution(
            u, catalogue_size=10, targets=3, negatives=4, lora_rows=2, source=NumpySource(0)
        )
        for u in (short, long)
    ]
    batch = collate(drawn, max_history=10)
    assert batch.history_mask.sum(1).tolist() == [1, 4]
    assert batch.target_mask.sum(1).tolist() == [1, 3]
    rows, columns = torch.nonzero(batch.others_allowed, as_tuple=True)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        assert int(batch.candidates[row, column]) not in drawn[row].unit.positives
    assert batch.target_items[1].tolist() == long.items[drawn[1].positions].tolist()

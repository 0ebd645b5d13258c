"""Requests: what is known when a user asks, and nothing of what the user then takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.context import ContextEncoder
from common.errors import DataError
from common.holdout import ItemSequence, Stage, UserSplit, history_of, hold_out
from common.requests import Requests, requests_of
from simulations.synthetic import synthetic_dataset

DATA = synthetic_dataset(users=12)
ENCODER = ContextEncoder(buckets=8, times=5)


def splits_of(split: str = "last_fifth") -> list[UserSplit]:
    return hold_out(DATA.interactions, DATA.catalogue, split=split, seed=0, users=DATA.users)


def with_other_items(sequence: ItemSequence) -> ItemSequence:
    """Another item and another rating at each of the same moments."""
    return ItemSequence((sequence.items + 1) % 80, 6 - sequence.ratings, sequence.timestamps)


@pytest.mark.parametrize("split", ["leave_one_out", "last_fifth"])
@pytest.mark.parametrize("stage", ["validation", "test"])
def test_a_request_knows_nothing_of_its_target(stage: Stage, split: str) -> None:
    splits = splits_of(split)
    part = "validation" if stage == "validation" else "test"
    others = [replace(s, **{part: with_other_items(getattr(s, part))}) for s in splits]
    assert any(
        (getattr(a, part).items != getattr(b, part).items).any()
        for a, b in zip(splits, others, strict=True)
    )
    asked, same = requests_of(splits, stage), requests_of(others, stage)
    for one, other in zip(asked, same, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(ENCODER.of_requests(asked), ENCODER.of_requests(same))


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_later_targets_are_in_the_future_of_the_page(stage: Stage) -> None:
    """With several targets the page is made at the time of the first, whatever comes after."""
    for split in splits_of():
        part = split.validation if stage == "validation" else split.test
        asked = requests_of([split], stage)
        assert asked.moments[0] == part.timestamps[0]
        assert asked.previous[0] <= asked.moments[0]
        known = np.concatenate([split.train.timestamps, split.validation.timestamps])
        before = len(history_of(split, stage)) - 1
        assert asked.previous[0] == known[before]


def test_requests_are_the_sequence_of_their_histories() -> None:
    splits = splits_of()
    asked = requests_of(splits, "test")
    assert len(asked) == 12
    np.testing.assert_array_equal(asked[3], history_of(splits[3], "test"))
    part = asked[4:7]
    assert isinstance(part, Requests)
    np.testing.assert_array_equal(part.moments, asked.moments[4:7])
    np.testing.assert_array_equal(ENCODER.of_requests(part), ENCODER.of_requests(asked)[4:7])


def test_histories_alone_are_refused_where_context_is_read() -> None:
    with pytest.raises(DataError, match="reads requests, got histories alone"):
        ENCODER.of_requests([history_of(s, "test") for s in splits_of()])


def test_a_user_without_a_target_makes_no_request() -> None:
    (split,) = splits_of()[:1]
    empty = ItemSequence(*(array[:0] for array in vars(split.test).values()))
    with pytest.raises(DataError, match="0 test items makes no request"):
        requests_of([replace(split, test=empty)], "test")


def test_one_of_each_per_request() -> None:
    asked = requests_of(splits_of(), "test")
    with pytest.raises(DataError, match="one of each per request"):
        replace(asked, moments=asked.moments[1:])

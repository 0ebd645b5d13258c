"""Context features: a public encoding, the same at every site, of what is known at the moment."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.config import ModelConfig
from common.config_loading import load_config
from common.context import NO_CONTEXT, ContextEncoder
from common.errors import ConfigError, DataError
from common.holdout import ItemSequence, UserSplit
from common.privacy_units import make_units
from common.requests import requests_of

DAY = 86_400
EVERYTHING = ContextEncoder.of(ModelConfig(context="user, time", context_dim=16))
GOLDEN = [2, 12, 14]
NOBODY = {"gender": "unknown", "age": "unknown"}


def sequence(items: list[int], times: list[int]) -> ItemSequence:
    ratings = np.ones(len(items), dtype=np.float32)
    return ItemSequence(np.array(items, np.int64), ratings, np.array(times, np.int64))


def split_of(times: list[int], attributes: dict[str, str] | None = None) -> UserSplit:
    """The last time tests, the one before it validates."""
    n = len(times) - 2
    return UserSplit(
        "u",
        sequence(list(range(n)), times[:n]),
        sequence([n], times[n:-1]),
        sequence([n + 1], times[-1:]),
        NOBODY if attributes is None else attributes,
    )


def test_width_and_parts_follow_the_configuration() -> None:
    assert (EVERYTHING.buckets, EVERYTHING.times, EVERYTHING.width) == (16, 5, 21)
    assert ContextEncoder.of(ModelConfig(context="time")).width == 5
    assert ContextEncoder.of(ModelConfig()) == NO_CONTEXT
    assert NO_CONTEXT.width == 0


def test_the_hash_of_attributes_is_public_and_never_changes() -> None:
    """Another version, another site: the same buckets, or adapters would not fit together."""
    attributes = {"gender": "F", "age": "29", "occupation": "writer"}
    found = EVERYTHING.of_user(attributes)
    assert np.flatnonzero(found).tolist() == GOLDEN
    assert found.sum() == 3
    other_order = dict(reversed(attributes.items()))
    np.testing.assert_array_equal(EVERYTHING.of_user(other_order), found)
    spelled = {"Gender": "f", "AGE": " 29", "occupation": "Writer"}
    np.testing.assert_array_equal(EVERYTHING.of_user(spelled), found)


def test_ages_count_by_their_band_and_the_unknown_not_at_all() -> None:
    wide = ContextEncoder(buckets=4096)
    of_age = {age: wide.of_user({"age": age}) for age in ("25", "34", "35")}
    np.testing.assert_array_equal(of_age["25"], of_age["34"])
    assert (of_age["34"] != of_age["35"]).any()
    assert not wide.of_user({"age": "old", "gender": "unknown"}).any()


def test_times_of_day_and_week_lie_on_circles() -> None:
    monday = 4 * DAY  # 5 January 1970
    moments = np.array([monday, monday + 6 * 3600, monday + DAY, monday + 7 * DAY])
    found = ContextEncoder(times=5).of_times(moments, moments)
    np.testing.assert_allclose(found[0, :2], [0, 1], atol=1e-6)
    np.testing.assert_allclose(found[1, :2], [1, 0], atol=1e-6)
    np.testing.assert_allclose(found[2, :2], found[0, :2], atol=1e-6)  # the same hour
    assert np.abs(found[2, 2:4] - found[0, 2:4]).max() > 0.1  # another day
    np.testing.assert_allclose(found[3], found[0], atol=1e-6)  # the same hour of the week


def test_a_pause_is_logarithmic_and_zero_for_tied_times() -> None:
    moments = np.array([1000, 1000, 1000 + 30 * DAY])
    found = ContextEncoder(times=5).of_times(moments, np.array([1000, 1500, 1000]))[:, 4]
    np.testing.assert_allclose(found, [0, 0, 1], atol=1e-6)


def test_each_item_of_a_unit_has_the_pause_before_it_also_past_the_cut() -> None:
    split = split_of([0, 10, 10, 500, 9000, 10_000, 10_001])
    (unit,) = make_units([split], max_history=2, encoder=EVERYTHING)
    assert unit.context is not None
    pauses = unit.context.at(np.arange(3))[:, -1] * math.log1p(30 * DAY)
    np.testing.assert_allclose(pauses, np.log1p([0, 490, 8500]), rtol=1e-5)
    (whole,) = make_units([split], max_history=50, encoder=EVERYTHING)
    assert whole.context is not None
    assert whole.context.at(np.arange(1))[0, -1] == 0  # the first has none before it


def test_an_example_has_the_context_of_its_own_target() -> None:
    split = split_of([0, 10, 10, 500, 9000, 10_000, 10_001], {"gender": "F"})
    (user,) = make_units([split], max_history=9, encoder=EVERYTHING)
    examples = make_units([split], max_history=2, unit="example", encoder=EVERYTHING)
    assert user.context is not None
    for place, example in enumerate(examples):
        assert example.context is not None
        own = example.context.at(np.array([example.first_target]))
        np.testing.assert_array_equal(own[0], user.context.at(np.array([place]))[0])


def test_a_request_is_encoded_as_a_target_at_its_moment_would_be() -> None:
    split = split_of([0, 10, 10, 500, 9000, 10_000, 10_001], {"gender": "F", "age": "30"})
    longer = UserSplit(
        "u",
        sequence([0] * 6, [0, 10, 10, 500, 9000, 10_000]),
        *[sequence([], [])] * 2,
        split.attributes,
    )
    (unit,) = make_units([longer], max_history=9, encoder=EVERYTHING)
    assert unit.context is not None
    (asked,) = EVERYTHING.of_requests(requests_of([split], "validation"))
    np.testing.assert_array_equal(asked, unit.context.at(np.array([5]))[0])


def test_without_context_units_are_as_they_were() -> None:
    (unit,) = make_units([split_of([0, 1, 2, 3])], max_history=9)
    assert unit.context is None


def test_data_without_attributes_are_refused_in_one_line() -> None:
    split = split_of([0, 1, 2, 3], {})
    with pytest.raises(DataError, match="model.context=user needs attributes.*users table"):
        make_units([split], max_history=9, encoder=EVERYTHING)
    make_units([split], max_history=9, encoder=ContextEncoder(times=5))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"model.context": "user,place"}, "takes user, time, each at most once, got 'place'"),
        ({"model.context": "time,time"}, "got 'time' 2x; correct the list"),
        ({"model.context": "user,"}, "got '' 1x"),
        ({"model.context": "user", "model.item_side": "lora"}, "needs a trained head"),
        ({"model.context": "user", "model.context_dim": 0}, "model.context_dim"),
    ],
)
def test_faults_of_the_configuration(keys: dict[str, str | int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(flat=keys)

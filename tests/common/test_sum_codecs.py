"""Messages of sums over all sites: what is written is read, and nothing else is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import MessageError
from common.message_records import META
from common.messages import (
    EnrolReply,
    EnrolRequest,
    SumReply,
    SumRequest,
    SumStage,
    decode_enrol_reply,
    decode_enrol_request,
    decode_sum_reply,
    decode_sum_request,
    encode_enrol_reply,
    encode_enrol_request,
    encode_sum_reply,
    encode_sum_request,
)
from tests.scripted_sites import release_record, small_adapter

SHA, OTHER = "ab" * 32, "cd" * 32
SHAPES = {name: array.shape for name, array in small_adapter().items()}
NO_PRIOR = np.zeros(0, dtype=np.float32)
STAGES = get_args(SumStage)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


def sum_request(stage: str = "advertise", server_round: int = 0, **changed: Any) -> SumRequest:
    trains = server_round > 0 and stage in ("mask_input", "exact")
    fields: dict[str, Any] = {
        "run": "run",
        "server_round": server_round,
        "config_sha256": SHA,
        "purpose": "update" if server_round else "popularity",
        "stage": stage,
        "participants": ("a", "b", "c"),
        "payload": b"payload",
        "adapter": small_adapter(0.5) if trains else {},
        "item_prior": np.ones(4, dtype=np.float32) if trains else NO_PRIOR,
    }
    return SumRequest(**(fields | changed))


def read_request(content: RecordDict) -> SumRequest:
    return decode_sum_request(content, config_sha256=SHA, shapes=SHAPES)


def equal(one: SumRequest, other: SumRequest) -> bool:
    arrays = {"adapter", "item_prior"}
    plain = [{k: v for k, v in vars(each).items() if k not in arrays} for each in (one, other)]
    same = one.adapter.keys() == other.adapter.keys() and all(
        np.array_equal(one.adapter[name], other.adapter[name]) for name in one.adapter
    )
    return plain[0] == plain[1] and same and np.array_equal(one.item_prior, other.item_prior)


@settings(max_examples=40)
@given(
    st.sampled_from(STAGES),
    st.integers(0, 10**6),
    st.sets(NAMES, min_size=1, max_size=20),
    st.binary(max_size=200),
)
def test_a_sum_request_comes_back(
    stage: str, server_round: int, participants: set[str], payload: bytes
) -> None:
    names = tuple(sorted(participants))
    request = sum_request(stage, server_round, participants=names, payload=payload)
    assert equal(read_request(encode_sum_request(request)), request)


def test_only_a_stage_that_trains_carries_the_adapter() -> None:
    for stage in STAGES:
        for server_round in (0, 1):
            content = encode_sum_request(sum_request(stage, server_round))
            trains = server_round == 1 and stage in ("mask_input", "exact")
            assert ("adapter" in content.array_records) is trains
    heavy = encode_sum_request(sum_request("mask_input", 1))
    light = encode_sum_request(sum_request("share_keys", 1))
    for wrong in (with_meta(heavy, stage="share_keys"), with_meta(light, stage="mask_input")):
        with pytest.raises(MessageError, match="must carry"):
            read_request(wrong)


def test_co_occurrence_carries_the_prior_alone_to_where_it_is_counted() -> None:
    prior = np.arange(4, dtype=np.float32)
    for stage in STAGES:
        request = sum_request(stage, purpose="cooccurrence", item_prior=prior)
        content = encode_sum_request(request)
        counts = stage in ("mask_input", "exact")
        assert set(content.array_records) == ({"item_prior"} if counts else set())
        assert read_request(content).item_prior.tolist() == (prior.tolist() if counts else [])
        with pytest.raises(MessageError, match="does not fit purpose"):
            read_request(with_meta(content, server_round=1))


def with_meta(content: RecordDict, **changed: Any) -> RecordDict:
    """`content` with other fields; None takes a field away."""
    meta = {**content.config_records[META], **changed}
    copy = RecordDict({name: content[name] for name in content if name != META})
    copy[META] = ConfigRecord({k: v for k, v in meta.items() if v is not None})
    return copy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", ""),
        ("run", 1),
        ("run", None),
        ("server_round", -1),
        ("server_round", 1),  # popularity is round 0
        ("server_round", "0"),
        ("config_sha256", OTHER),
        ("purpose", "metrics"),
        ("purpose", "update"),
        ("stage", "unknown"),
        ("stage", None),
        ("participants", ["b", "a"]),
        ("participants", ["a", "a"]),
        ("participants", []),
        ("participants", ["a", "../b"]),
        ("participants", ["a"] * 1001),
        ("participants", "a"),
        ("participants", [1, 2]),
        ("payload", "text"),
        ("payload", None),
        ("more", 1),
        ("kind", "sum_reply"),
        ("schema_version", 2),
    ],
)
def test_a_broken_field_of_a_sum_request_is_named(field: str, value: Any) -> None:
    content = with_meta(encode_sum_request(sum_request()), **{field: value})
    with pytest.raises(MessageError) as fault:
        read_request(content)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("stage", ["mask_input", "exact"])
def test_an_adapter_of_another_model_is_refused(stage: str) -> None:
    wrong = {**small_adapter(), "extra": np.zeros(1, dtype=np.float32)}
    with pytest.raises(MessageError):
        read_request(encode_sum_request(sum_request(stage, 1, adapter=wrong)))


def reply_to(request: SumRequest, payload: bytes = b"part", **changed: Any) -> SumReply:
    releases = request.stage in ("mask_input", "exact")
    digest = hashlib.sha256(payload).hexdigest()
    release = release_record(
        "a", {}, kind=request.purpose, server_round=request.server_round, payload_sha256=digest
    )
    fields = (request.server_round, SHA, request.stage, payload, release if releases else None)
    return replace(SumReply("a", *fields), **changed)


@given(st.sampled_from(STAGES), st.integers(0, 5), st.binary(max_size=200))
def test_a_sum_reply_comes_back(stage: str, server_round: int, payload: bytes) -> None:
    request = sum_request(stage, server_round)
    reply = reply_to(request, payload)
    assert decode_sum_reply(encode_sum_reply(reply), asked=request, limit=200) == reply


Change = Callable[[SumReply], SumReply]


@pytest.mark.parametrize(
    ("stage", "field", "value"),
    [
        ("share_keys", "site", "../a"),
        ("share_keys", "server_round", 1),
        ("share_keys", "config_sha256", OTHER),
        ("share_keys", "stage", "unmask"),
        ("share_keys", "payload", bytes(101)),
        ("share_keys", "payload", "text"),
        ("share_keys", "release", "{}"),
        ("share_keys", "more", 1),
        ("share_keys", "site", None),
        ("mask_input", "release", ""),
        ("mask_input", "release", "{}"),
        ("mask_input", "payload", b"other bytes than the release record states"),
        ("mask_input", "site", "b"),  # and the record is of a
        ("exact", "release", ""),
    ],
)
def test_a_broken_field_of_a_sum_reply_is_named(stage: str, field: str, value: Any) -> None:
    request = sum_request(stage)
    content = with_meta(encode_sum_reply(reply_to(request)), **{field: value})
    with pytest.raises(MessageError) as fault:
        decode_sum_reply(content, asked=request, limit=100)
    assert "\n" not in str(fault.value)


def test_a_release_of_another_sort_or_round_is_refused() -> None:
    request = sum_request("mask_input", 2)
    for asked in (sum_request("mask_input", 3), sum_request("mask_input", 0)):
        reply = reply_to(request, server_round=asked.server_round)
        with pytest.raises(MessageError):
            decode_sum_reply(encode_sum_reply(reply), asked=asked, limit=100)


def enrol_reply(**changed: Any) -> EnrolReply:
    return replace(EnrolReply("a", SHA, "12" * 32, 9, 80, "34" * 32), **changed)


@given(
    NAMES, st.integers(1, 10**6), st.integers(1, 10_000_000), st.binary(min_size=32, max_size=32)
)
def test_an_enrolment_comes_back(site: str, units: int, items: int, key: bytes) -> None:
    request = EnrolRequest("run", SHA)
    assert decode_enrol_request(encode_enrol_request(request), config_sha256=SHA) == request
    reply = enrol_reply(site=site, declared_units=units, catalogue_size=items, identity=key.hex())
    assert decode_enrol_reply(encode_enrol_reply(reply), config_sha256=SHA) == reply


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("site", "a b"),
        ("config_sha256", OTHER),
        ("identity", "12" * 31),
        ("identity", "AB" * 32),
        ("identity", 7),
        ("declared_units", 0),
        ("declared_units", 1.5),
        ("catalogue_size", 0),
        ("catalogue_size", 10_000_001),
        ("catalogue_sha256", "no hash"),
        ("catalogue_sha256", None),
        ("more", 1),
    ],
)
def test_a_broken_field_of_an_enrol_reply_is_named(field: str, value: Any) -> None:
    content = with_meta(encode_enrol_reply(enrol_reply()), **{field: value})
    with pytest.raises(MessageError) as fault:
        decode_enrol_reply(content, config_sha256=SHA)
    assert "\n" not in str(fault.value)


def test_an_enrol_request_of_another_configuration_is_refused() -> None:
    content = encode_enrol_request(EnrolRequest("run", OTHER))
    with pytest.raises(MessageError, match="config_sha256"):
        decode_enrol_request(content, config_sha256=SHA)

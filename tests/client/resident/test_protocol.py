"""Frames: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import json
import socket
import struct

import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from client.resident.protocol import (
    ANSWER,
    FAULT,
    PRELUDE,
    REQUEST,
    Frame,
    Limits,
    RequestHead,
    content_from_bytes,
    encode_answer,
    encode_fault,
    encode_request,
    frame,
    parse_answer,
    parse_request,
    read_frame,
)
from common.errors import MessageError
from tests.scripted_sites import small_config

HEAD = RequestHead(message_type="query.anything", group="3", run_config={})
NO_CONTENT = RecordDict()


def through(content: bytes, limits: Limits | None = None) -> Frame:
    """What a reader makes of `content`, sent and closed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(content)
        theirs.shutdown(socket.SHUT_WR)
        return read_frame(ours, limits or Limits(read_s=1.0))


scalars = st.one_of(
    st.text(max_size=20), st.integers(-(2**62), 2**62), st.booleans(), st.floats(allow_nan=False)
)


@given(
    st.text(max_size=200),
    st.dictionaries(st.text(max_size=20), scalars, max_size=5),
    st.binary(max_size=100),
)
def test_a_request_is_read_back_as_it_was_written(
    group: str, run_config: dict[str, str | int | float | bool], payload: bytes
) -> None:
    head = RequestHead(message_type="train", group=group, run_config=run_config)
    content = RecordDict({"any": ConfigRecord({"payload": payload})})
    request = parse_request(through(encode_request(head, content)))
    assert request.head == head
    assert {k: type(v) for k, v in request.head.run_config.items()} == {
        k: type(v) for k, v in run_config.items()
    }
    assert content_from_bytes(request.body) == content


def test_a_whole_run_config_passes_and_keeps_its_types() -> None:
    flat = small_config(1).to_flat() | {"privacy.target_epsilon": float("inf")}
    head = HEAD.model_copy(update={"run_config": flat})
    assert parse_request(through(encode_request(head, NO_CONTENT))).head.run_config == flat


def test_an_answer_and_a_fault_are_told_apart() -> None:
    content = RecordDict({"m": ConfigRecord({"x": 1})})
    assert parse_answer(through(encode_answer(content))) == content
    assert parse_answer(through(encode_fault("one\nline"))) == "one line"
    with pytest.raises(MessageError, match="is no answer"):
        parse_answer(through(encode_request(HEAD, content)))
    with pytest.raises(MessageError, match="is no request"):
        parse_request(through(encode_answer(content)))


@given(st.integers(0, 60))
def test_a_frame_that_is_cut_anywhere_is_none(kept: int) -> None:
    whole = encode_request(HEAD, NO_CONTENT)
    with pytest.raises(MessageError, match="cut off"):
        through(whole[: min(kept, len(whole) - 1)])


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_lengths_beyond_the_limits_are_refused_unread(head: int, body: int) -> None:
    prelude = PRELUDE.pack(b"FdR1", REQUEST, max(head, 101), body)
    with pytest.raises(MessageError, match="the head of a frame has .* the limit is 100"):
        through(prelude, Limits(head=100))
    prelude = PRELUDE.pack(b"FdR1", REQUEST, 0, max(body, 101))
    with pytest.raises(MessageError, match="the body of a frame has .* the limit is 100"):
        through(prelude, Limits(body=100))


def test_a_slow_frame_and_a_slow_byte_are_ended() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"Fd")
        with pytest.raises(MessageError, match="stopped after 2 bytes of 13"):
            read_frame(ours, Limits(read_s=0.05))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(encode_request(HEAD, NO_CONTENT))
        with pytest.raises(MessageError, match="longer than allowed"):
            read_frame(ours, Limits(frame_s=-1.0))


@given(st.binary(max_size=300))
def test_random_bytes_are_no_frame(content: bytes) -> None:
    with pytest.raises(MessageError):
        through(content)


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 255))
def test_whatever_a_frame_holds_it_is_a_request_or_a_message_error(
    head: bytes, body: bytes, kind: int
) -> None:
    found = through(frame(kind, head, body))
    for parse in (parse_request, parse_answer):
        try:
            parse(found)
        except MessageError:
            continue


@given(st.binary(max_size=200))
def test_a_content_is_a_record_dict_or_a_message_error(body: bytes) -> None:
    try:
        assert isinstance(content_from_bytes(body), RecordDict)
    except MessageError:
        return


@given(st.data())
def test_a_damaged_content_is_a_record_dict_or_a_message_error(data: st.DataObject) -> None:
    from common.message_records import write_arrays
    from tests.scripted_sites import small_adapter

    content = RecordDict({"meta": ConfigRecord({"x": [1, 2]}), "a": write_arrays(small_adapter())})
    body = bytearray(encode_answer(content)[PRELUDE.size :])
    for _ in range(3):
        body[data.draw(st.integers(0, min(len(body) - 1, 200)))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(content_from_bytes(bytes(body)), RecordDict)
    except MessageError:
        return


HEAD_JSON = {"message_type": "train", "group": "1", "run_config": {}, "code_sha256": ""}


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({**HEAD_JSON, "node_config": {"site-folder": "/elsewhere"}}, "node_config"),
        ({**HEAD_JSON, "message_type": 1}, "message_type"),
        ({**HEAD_JSON, "message_type": "x" * 201}, "message_type"),
        ({**HEAD_JSON, "message_type": "\ud800"}, "no JSON"),
        ({**HEAD_JSON, "run_config": {"a": [1]}}, "run_config"),
        ({**HEAD_JSON, "run_config": {"a": "\ud800"}}, "no JSON"),
        ({**HEAD_JSON, "code_sha256": "A" * 64}, "code_sha256"),
        ({**HEAD_JSON, "signatures": [{"public_key": "x", "signature": "y"}]}, "signatures"),
        ({}, "message_type"),
        ([], "wrong at"),
    ],
)
def test_a_head_holds_what_it_must_and_nothing_else(head: object, said: str) -> None:
    with pytest.raises(MessageError, match=said):
        parse_request(Frame(REQUEST, json.dumps(head).encode(), b""))


@pytest.mark.parametrize("head", [b"[" * 60_000, b"1" * 60_000, b"\xff", b""])
def test_hostile_json_is_no_head(head: bytes) -> None:
    with pytest.raises(MessageError):
        parse_request(Frame(REQUEST, head, b""))


def test_the_layout_is_what_the_documentation_says() -> None:
    assert encode_fault("no") == b"FdR1\x03" + struct.pack(">II", 2, 0) + b"no"
    assert (REQUEST, ANSWER, FAULT) == (1, 2, 3)

"""A worker's loop in this process, over a real pipe: its sites are scripted by a bad folder."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest
import torch
from flwr.app import ConfigRecord, Error, Message, RecordDict

from common.config import RunConfig
from common.messages import PopularityRequest, encode_popularity_request, is_refusal
from simulations.message_desk import FIRST_NODE_ID, set_message_id, take_identity
from simulations.workers.process import WorkerTask, work
from simulations.workers.settings import worker_settings
from simulations.workers.wire import (
    FAULT,
    LATE,
    READY,
    REPLY,
    Share,
    message_from_bytes,
    message_to_bytes,
)

RUN_ID = 9


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = multiprocessing.Pipe()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def task_of(config: RunConfig, **more: int) -> WorkerTask:
    return WorkerTask(4, RUN_ID, {**worker_settings(config, 0, 1), **more}, batch=2)


def popularity(node: int) -> Message:
    take_identity(RUN_ID)
    content = encode_popularity_request(PopularityRequest("r", RunConfig().sha256()))
    message = Message(content, FIRST_NODE_ID + node, "query.popularity", group_id="0")
    set_message_id(message)
    return message


def frames_after(
    ends: tuple[Connection, Connection], shares: list[tuple[float | None, list[Message]]]
) -> list[bytes]:
    """What a worker writes from its start to the end of the run."""
    ours, theirs = ends
    for left_s, messages in shares:
        ours.send(Share(len(messages), left_s))
        for message in messages:
            ours.send_bytes(message_to_bytes(message))
    task = task_of(RunConfig())
    with socket.socket(fileno=ours.fileno()) as half:  # the worker reads the end of the run
        half.shutdown(socket.SHUT_WR)
        half.detach()
    work(theirs, task)
    theirs.close()
    found = []
    while True:
        try:
            found.append(ours.recv_bytes())
        except EOFError:
            return found


def test_every_message_of_a_share_has_one_frame_in_order(
    ends: tuple[Connection, Connection],
) -> None:
    sent = [popularity(node) for node in (3, 1, 2)]
    ready, *replies = frames_after(ends, [(60.0, sent[:2]), (None, sent[2:])])
    assert ready == READY
    assert [frame[:1] for frame in replies] == [REPLY] * 3
    found = [message_from_bytes(frame[1:]) for frame in replies]
    assert [each.metadata.reply_to_message_id for each in found] == [
        each.metadata.message_id for each in sent
    ]
    assert all(is_refusal(each.content) for each in found)  # data.sites_folder is empty


def test_after_the_deadline_every_message_is_late(ends: tuple[Connection, Connection]) -> None:
    sent = [popularity(node) for node in (0, 1, 2)]
    assert frames_after(ends, [(0.0, sent)]) == [READY, LATE, LATE, LATE]


def test_a_worker_that_cannot_start_says_so_in_one_line(
    ends: tuple[Connection, Connection],
) -> None:
    ours, theirs = ends
    work(theirs, task_of(RunConfig(), **{"engine.nonsense": 1}))
    frame = ours.recv_bytes()
    assert frame[:1] == FAULT
    assert b"engine.nonsense" in frame
    assert b"\n" not in frame


def test_an_unexpected_fault_is_named_and_logged(
    ends: tuple[Connection, Connection], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = ends
    ours.send("no share")
    work(theirs, task_of(RunConfig()))
    assert ours.recv_bytes() == READY
    assert ours.recv_bytes().startswith(FAULT + b"AttributeError: ")
    assert "a worker failed" in caplog.text


def test_a_worker_without_a_run_ends(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    ours.close()
    work(theirs, task_of(RunConfig()))


def test_content_and_error_survive_the_wire() -> None:
    message = popularity(1)
    again = message_from_bytes(message_to_bytes(message))
    assert vars(again.metadata) == vars(message.metadata)
    assert again.content == message.content
    reply = Message(RecordDict({"x": ConfigRecord({"bytes": b"\x00\xff"})}), reply_to=message)
    assert message_from_bytes(message_to_bytes(reply)).content == reply.content
    failed = Message(Error(3, "no disk"), reply_to=message)
    assert vars(message_from_bytes(message_to_bytes(failed)).error) == vars(failed.error)

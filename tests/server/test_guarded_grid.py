"""One node's unreadable reply costs that node's reply alone."""

from __future__ import annotations

from collections.abc import Iterable

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.error import Error
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from server.guarded_grid import UNREADABLE, GuardedGrid, guarded

MALFORMED, LATE, GOOD, EXPIRED = 11, 12, 13, 14


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages in the name of the process's task."""
    for name, value in (("_run_id", 1), ("_node_id", SUPERLINK_NODE_ID), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


class NodesThatAnswer(HttpGrid):
    """Flower's grid with its network cut away: each node answers as its number says."""

    def __init__(self) -> None:
        super().__init__(token="t")
        self.sent: dict[str, Message] = {}
        self.looks = 0
        self.is_down = False

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for message in messages:
            message.metadata.__dict__["_message_id"] = name = f"m{message.metadata.dst_node_id}"
            self.sent[name] = message
        return list(self.sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As Flower's: one that cannot be unpacked loses all that are asked for with it."""
        self.looks += 1
        if self.is_down:
            raise httpx.ConnectError("refused")
        found = []
        for each in message_ids:
            message = self.sent[each]
            node = message.metadata.dst_node_id
            if node == MALFORMED:
                MessageProto.FromString(b"\xff")  # raises what Flower meets there
            if node == LATE and self.looks < 6:
                continue
            if node == EXPIRED:
                error = Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, "gone"), reply_to=message)
                error.metadata.__dict__["_src_node_id"] = SUPERLINK_NODE_ID
                found.append(error)
                continue
            found.append(Message(RecordDict({"c": ConfigRecord({"n": node})}), reply_to=message))
        return found


def messages() -> list[Message]:
    return [Message(RecordDict(), node, "query") for node in (MALFORMED, LATE, GOOD)]


def test_an_unreadable_reply_is_its_nodes_error_and_the_others_are_read() -> None:
    slept: list[float] = []
    grid = GuardedGrid(NodesThatAnswer(), slept.append)
    replies = {r.metadata.src_node_id: r for r in grid.send_and_receive(messages(), timeout=60)}
    assert sorted(replies) == [MALFORMED, LATE, GOOD]
    assert replies[MALFORMED].has_error()
    assert replies[MALFORMED].error.reason == f"{UNREADABLE} (DecodeError)"
    assert [replies[n].content["c"]["n"] for n in (LATE, GOOD)] == [LATE, GOOD]
    assert slept  # the late one was waited for


def test_what_the_superlink_reports_of_a_node_is_that_nodes() -> None:
    sent = [Message(RecordDict(), EXPIRED, "query")]
    (plain,) = NodesThatAnswer().send_and_receive(sent, timeout=60)
    assert plain.metadata.src_node_id == SUPERLINK_NODE_ID
    (reply,) = GuardedGrid(NodesThatAnswer()).send_and_receive(sent, timeout=60)
    assert (reply.metadata.src_node_id, reply.error.reason) == (EXPIRED, "gone")


def test_flowers_own_grid_loses_them_all() -> None:
    with pytest.raises(Exception, match="parsing"):
        NodesThatAnswer().send_and_receive(messages(), timeout=60)


def test_a_superlink_that_is_down_is_no_nodes_fault() -> None:
    inner = NodesThatAnswer()
    inner.is_down = True
    with pytest.raises(httpx.ConnectError):
        GuardedGrid(inner).send_and_receive(messages(), timeout=60)


def test_what_flower_does_not_take_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    inner, sent = NodesThatAnswer(), messages()
    monkeypatch.setattr(inner, "push_messages", lambda messages: [])  # too large a request
    assert list(GuardedGrid(inner).send_and_receive(sent, timeout=60)) == []
    took = NodesThatAnswer()
    push = took.push_messages
    monkeypatch.setattr(took, "push_messages", lambda each: [None, None, list(push(each))[-1]])
    replies = list(GuardedGrid(took).send_and_receive(sent, timeout=60))
    assert [reply.metadata.src_node_id for reply in replies] == [GOOD]


def test_silence_ends_with_the_deadline() -> None:
    inner = NodesThatAnswer()
    late = [Message(RecordDict(), LATE, "query")]
    assert list(GuardedGrid(inner, lambda _: None).send_and_receive(late, timeout=0)) == []
    assert list(GuardedGrid(inner).send_and_receive([], timeout=None)) == []


def test_only_a_grid_over_the_network_is_guarded() -> None:
    inner = NodesThatAnswer()
    over_it = guarded(inner)
    assert isinstance(over_it, GuardedGrid)
    assert guarded(over_it) is over_it  # no grid of Flower's own

"""Who can be summed over."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from flwr.app import Error as FlowerError
from flwr.app import Message

from common.messages import (
    ENROL_QUERY,
    EnrolReply,
    EnrolRequest,
    RefusalReply,
    encode_enrol_reply,
    encode_enrol_request,
    encode_refusal,
)
from server.known_sites import KnownSites
from server.reply_reading import ReplyReader
from server.roster import enrolled
from simulations.inprocess_grid import FIRST_NODE_ID, InProcessGrid
from tests.scripted_sites import scripted_app, small_config

SHA, CATALOGUE, OTHER = "ab" * 32, "12" * 32, "34" * 32


@pytest.fixture
def reader() -> ReplyReader:
    config = small_config(8)
    InProcessGrid(scripted_app(), 8, 5, config.to_flat())  # sets the identity of messages
    return ReplyReader("run", SHA, {})


def reply(node: int, site: str, **changed: Any) -> Message:
    """The message with which the site at a node enrols."""
    fields: dict[str, Any] = {
        "site": site,
        "config_sha256": SHA,
        "identity": f"{node:02d}" * 32,
        "declared_units": 10 + node,
        "catalogue_size": 80,
        "catalogue_sha256": CATALOGUE,
    }
    return answer(node, encode_enrol_reply(EnrolReply(**(fields | changed))))


def answer(node: int, content: Any) -> Message:
    question = encode_enrol_request(EnrolRequest("run", SHA))
    asked = Message(question, FIRST_NODE_ID + node, ENROL_QUERY, group_id="0")
    asked.metadata.__dict__["_message_id"] = f"id-{node}"
    return Message(content, reply_to=asked)


def lines(replies: Iterable[Message], reader: ReplyReader) -> dict[str, tuple[str, str]]:
    _, outcome = enrolled(replies, reader)
    assert [line.site for line in outcome.sites] == sorted(line.site for line in outcome.sites)
    return {line.site: (line.status, line.reason or "") for line in outcome.sites}


def test_every_site_is_enrolled_with_what_it_declares(reader: ReplyReader) -> None:
    roster, outcome = enrolled([reply(node, f"s{node}") for node in (2, 0, 1)], reader)
    assert list(roster.members) == ["s0", "s1", "s2"]
    assert roster.items == 80
    member = roster.members["s2"]
    assert (member.node, member.declared_units) == (FIRST_NODE_ID + 2, 12)
    assert member.identity == bytes.fromhex("02" * 32)
    assert outcome.ok == 3


@pytest.mark.parametrize("odd", [{"catalogue_sha256": OTHER}, {"catalogue_size": 81}])
def test_a_minority_with_another_catalogue_is_left_out(
    reader: ReplyReader, odd: dict[str, Any]
) -> None:
    replies = [reply(0, "s0", **odd), *(reply(node, f"s{node}") for node in (1, 2))]
    roster, outcome = enrolled(replies, reader)
    assert list(roster.members) == ["s1", "s2"]
    assert roster.items == 80
    (line,) = (line for line in outcome.sites if line.status != "ok")
    assert line.site == "s0"
    assert "give all sites the same catalogue" in str(line.reason)


def test_refusals_errors_and_impostors_are_named(reader: ReplyReader) -> None:
    refusal = encode_refusal(RefusalReply("s2", 0, "PolicyRefusal", "mode not allowed"))
    found = lines(
        [
            reply(0, "s0"),
            reply(1, "s0"),  # a second node in the name of the first
            answer(2, refusal),
            answer(3, FlowerError(1, "it broke")),
            reply(4, "s4", config_sha256=OTHER),
        ],
        reader,
    )
    assert found["s0"] == ("ok", "")
    assert found[f"node-{FIRST_NODE_ID + 1}"][0] == "error"
    assert found["s2"] == ("refused", "PolicyRefusal: mode not allowed")
    assert found[f"node-{FIRST_NODE_ID + 3}"] == ("error", "it broke")
    assert "config_sha256" in found[f"node-{FIRST_NODE_ID + 4}"][1]


def test_nobody_is_nobody(reader: ReplyReader) -> None:
    roster, outcome = enrolled([], reader)
    assert (roster.members, roster.items, outcome.sites) == ({}, 0, ())


def test_who_left_stays_away(reader: ReplyReader) -> None:
    roster, _ = enrolled([reply(node, f"s{node}") for node in range(3)], reader)
    left = roster.without(["s1", "never there"])
    assert list(left.members) == ["s0", "s2"]
    assert left.items == 80
    assert list(roster.members) == ["s0", "s1", "s2"]


def test_a_site_that_enrols_again_must_be_the_same(reader: ReplyReader) -> None:
    enrolled([reply(node, f"s{node}") for node in range(4)], reader)
    reader.known = KnownSites.from_json(json.loads(json.dumps(reader.known.to_json())))
    reader.forget_absent([])  # a new server, and every site at another node
    found = lines(
        [
            reply(4, "s0", identity="00" * 32, declared_units=10),
            reply(5, "s1", identity="09" * 32, declared_units=11),
            reply(6, "s2", identity="02" * 32, declared_units=99),
            reply(7, "s3", identity="03" * 32, declared_units=13, catalogue_sha256=OTHER),
        ],
        reader,
    )
    assert found["s0"] == ("ok", "")
    assert "give the site its own keys back" in found["s1"][1]
    assert "declared 12 units and now 99" in found["s2"][1]
    assert "give all sites the same catalogue" in found["s3"][1]

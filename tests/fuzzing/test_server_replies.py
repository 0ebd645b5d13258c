"""What a site may send to the server: a typed reply, or a line that says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, Metadata, RecordDict
from flwr.app.message import make_message
from hypothesis import given

from client.resident.protocol import content_from_bytes, content_to_bytes
from common.errors import MessageError, RoundAbandoned, SecAggRefusal
from common.messages import (
    EnrolReply,
    NoisedMetricsReply,
    RefusalReply,
    SumReply,
    SumRequest,
    encode_enrol_reply,
    encode_noised_metrics_reply,
    encode_refusal,
    encode_sum_reply,
)
from common.metrics_plan import METRIC_COORDINATES, metrics_tensor
from server.reply_reading import ReplyReader
from server.round_record import SiteRound
from tests.common.test_messages import GOOD, SHA, SHAPES
from tests.fuzzing.counting import knocked, share, sort_of
from tests.fuzzing.mutations import hostile, hostile_bytes, hostile_record, text
from tests.fuzzing.served_sites import is_a_line
from tests.scripted_sites import release_record
from tests.secagg_federation import STAGES, Federation, make_spec, random_vectors

NODE = 7
ASKED = SumRequest(
    run="run",
    server_round=1,
    config_sha256=SHA,
    purpose="update",
    stage="share_keys",
    participants=("site-0000", "site-0001"),
    payload=b"",
    adapter={},
    item_prior=np.zeros(0, np.float32),
)


def noised_metrics_reply() -> RecordDict:
    sums = np.arange(len(METRIC_COORDINATES), dtype=np.float32)
    release = release_record(
        "site-0000", {metrics_tensor("test"): sums}, server_round=3, kind="metrics"
    )
    reply = NoisedMetricsReply("site-0000", 3, SHA, "test", sums, release, 12)
    return encode_noised_metrics_reply(reply)


def refusal() -> RecordDict:
    return encode_refusal(RefusalReply("site-0000", 3, "BudgetRefusal", "a\nforged \x1b[31m line"))


REPLIES: dict[str, Callable[[], RecordDict]] = {
    "train": GOOD["train_reply"],
    "popularity": GOOD["popularity_reply"],
    "cooccurrence": GOOD["cooccurrence_reply"],
    "evaluate": GOOD["evaluate_reply"],
    "noised_metrics": noised_metrics_reply,
    "enrolment": lambda: encode_enrol_reply(
        EnrolReply("site-0000", SHA, "a" * 64, 12, 5, "b" * 64)
    ),
    "part": lambda: encode_sum_reply(SumReply("site-0000", 1, SHA, "share_keys", b"abc", None)),
    "refusal": refusal,
}


def read(reader: ReplyReader, kind: str, message: Message) -> Any:
    """The reader's method for a kind of reply."""
    readers: dict[str, Callable[[], Any]] = {
        "train": lambda: reader.train(message, 3),
        "popularity": lambda: reader.popularity(message),
        "cooccurrence": lambda: reader.cooccurrence(message, 6),
        "evaluate": lambda: reader.evaluate(message, 3),
        "noised_metrics": lambda: reader.noised_metrics(message, 3, "test"),
        "enrolment": lambda: reader.enrolment(message),
        "part": lambda: reader.part(message, ASKED, 1000),
        "refusal": lambda: reader.train(message, 3),
    }
    return readers[kind]()


def reply_of(content: RecordDict) -> Message:
    """A node's message, as the grid hands it over."""
    metadata = Metadata(
        run_id=1,
        message_id="m",
        src_node_id=NODE,
        dst_node_id=1,
        reply_to_message_id="q",
        group_id="1",
        created_at=0.0,
        ttl=60.0,
        message_type="train",
    )
    return make_message(metadata=metadata, content=content)


def test_every_good_reply_is_read() -> None:
    for kind, make in REPLIES.items():
        found = read(ReplyReader("run", SHA, SHAPES), kind, reply_of(make()))
        if kind == "refusal":
            assert found == SiteRound(
                "site-0000", "refused", r"BudgetRefusal: a forged \x1b[31m line"
            )
        elif kind != "noised_metrics":
            assert not isinstance(found, SiteRound), found


@pytest.mark.parametrize("kind", REPLIES)
def test_replies_of_every_type(kind: str) -> None:
    valid = content_to_bytes(REPLIES[kind]())

    def made(r: Random) -> bytes:
        if kind == "refusal" and r.random() < 0.5:
            return content_to_bytes(
                encode_refusal(RefusalReply(text(r), r.randint(0, 4), text(r), text(r) + text(r)))
            )
        return hostile_record(r, valid)

    @share(0.03)
    @given(hostile(made))
    def fuzzed(body: bytes) -> None:
        try:
            content = content_from_bytes(body)
        except MessageError:
            return  # Flower's own reader hands no such thing over: no input of this door
        reader = ReplyReader("run", SHA, SHAPES)
        with knocked(f"server: {kind}", body) as said:
            found = read(reader, kind, reply_of(content))
        if not isinstance(found, SiteRound):
            said["read"] += 1
            return
        assert found.status in ("refused", "error")
        assert found.reason is not None
        assert is_a_line(found.reason, 500), found
        assert reader.releases == []
        said[sort_of(found.reason)] += 1

    fuzzed()


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_of_a_secure_sum(stage: str) -> None:
    """One site's bytes are changed: it is left out, or the round is abandoned; nothing else."""
    spec = make_spec(4, 1, 1)

    @share(0.01)
    @given(hostile(lambda r: r.randbytes(8)))
    def fuzzed(seed: bytes) -> None:
        r, federation = Random(seed), Federation(spec)
        sent: list[bytes] = []

        def up(message: Any) -> Any:
            content = message.encode()
            if at["stage"] == stage and message.site == spec.participants[0]:
                content = hostile_bytes(r, content)
                sent.append(content)
            found, fault = decoded(type(message), content)
            assert is_a_line(fault, 500), fault
            return found

        at = {"stage": ""}
        with knocked(f"server: sum, {stage}", seed) as said:
            said[_walked(federation, up, at)] += 1
        assert len(sent) == 1
        assert all(is_a_line(line, 500) for line in federation.server.rejected.values())

    fuzzed()


def decoded(kind: Any, content: bytes) -> tuple[Any, str]:
    """A site's message, or None and the line with which `SumExchange` leaves it out."""
    try:
        return kind.decode(content), "read"
    except MessageError as fault:
        return None, str(fault)


def _walked(federation: Federation, up: Callable[[Any], Any], at: dict[str, str]) -> str:
    """How a round ends in which `up` reads what sites send; `at` says which stage it is."""
    server, sites, vectors = federation.server, federation.sites, random_vectors(federation.spec)
    names = list(federation.spec.participants)

    def said(stage: str, say: Callable[[str], Any]) -> list[Any]:
        at["stage"] = stage
        asked = server.present if stage != "advertise" else names
        found = []
        for name in asked:
            with suppress(SecAggRefusal):  # of an honest site, of a peer's changed shares
                found.append(up(say(name)))
        return [each for each in found if each is not None]

    try:
        keys = server.receive_adverts(said("advertise", lambda s: sites[s].advertise()))
        shares = server.receive_shares(said("share_keys", lambda s: sites[s].share_keys(keys)))
        alive = server.receive_inputs(
            said("mask_input", lambda s: sites[s].mask_input(shares[s], vectors[s]))
        )
        signed = server.receive_signatures(
            said("sign_survivors", lambda s: sites[s].sign_survivors(alive))
        )
        total = server.receive_unmask(said("unmask", lambda s: sites[s].unmask(signed)))
    except RoundAbandoned:
        return "abandoned"
    assert len(total) == federation.spec.length
    return f"summed over {len(alive.survivors)}"

"""What a relay may send to a site's resident agent: it is answered, or refused in a line."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from flwr.app import RecordDict
from hypothesis import given

from client.resident.protocol import (
    PRELUDE,
    REQUEST,
    Limits,
    Request,
    RequestHead,
    content_to_bytes,
    frame,
    parse_answer,
    read_frame,
)
from common.config import RunConfig
from common.initial_adapter import initial_adapter
from common.messages import (
    COOCCURRENCE_QUERY,
    ENROL_QUERY,
    POPULARITY_QUERY,
    SUM_QUERY,
    CooccurrenceRequest,
    EnrolRequest,
    EvaluateRequest,
    PopularityRequest,
    TrainRequest,
    encode_cooccurrence_request,
    encode_enrol_request,
    encode_evaluate_request,
    encode_popularity_request,
    encode_sum_request,
    encode_train_request,
    is_refusal,
)
from tests.client.resident.conftest import connected, frame_of, serving
from tests.fuzzing.counting import knocked, share
from tests.fuzzing.mutations import (
    FLOATS,
    choices,
    hostile,
    hostile_bytes,
    hostile_record,
    number,
    text,
)
from tests.fuzzing.served_sites import (
    PLACE,
    Records,
    ServedSites,
    head_of,
    judged,
    recorded,
)
from tests.sum_federation import ITEMS, STAGES, Walk

FIRST = "site-0000"
TYPES = ("train", "evaluate", POPULARITY_QUERY, COOCCURRENCE_QUERY, ENROL_QUERY)
PRIOR = np.linspace(-1, 1, ITEMS, dtype=np.float32)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Generator[ServedSites]:
    """Three sites, offline as their unit files make them; the first is fuzzed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield ServedSites(tmp_path_factory.mktemp(PLACE) / "sites")


@pytest.fixture(scope="module")
def short_folder() -> Generator[Path]:
    """A folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="frf-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def log() -> Generator[Records]:
    """All that is logged."""
    with recorded() as records:
        yield records


@pytest.fixture
def summed(sites: ServedSites, tmp_path_factory: pytest.TempPathFactory) -> Generator[ServedSites]:
    """Sites whose budget no other test has spent."""
    others = ServedSites(tmp_path_factory.mktemp(PLACE) / "summed")
    yield others
    assert others.ledger_of(FIRST).verify() == []


@pytest.fixture(scope="module", autouse=True)
def the_ledger_holds(sites: ServedSites) -> Generator[None]:
    """Afterwards the ledger verifies, and the site answers as it did before."""
    answered = asked(sites, POPULARITY_QUERY)
    yield
    assert asked(sites, POPULARITY_QUERY) == answered
    assert sites.ledger_of(FIRST).verify() == []


def content_of(kind: str, config: RunConfig, run: str = "run") -> bytes:
    """A valid message of a type, as the server sends it."""
    sha256, adapter = config.sha256(), initial_adapter(config)
    records = {
        "train": lambda: encode_train_request(TrainRequest(run, 1, sha256, adapter, PRIOR)),
        "evaluate": lambda: encode_evaluate_request(
            EvaluateRequest(run, 1, sha256, adapter, PRIOR, "test")
        ),
        POPULARITY_QUERY: lambda: encode_popularity_request(PopularityRequest(run, sha256)),
        COOCCURRENCE_QUERY: lambda: encode_cooccurrence_request(
            CooccurrenceRequest(run, sha256, PRIOR)
        ),
        ENROL_QUERY: lambda: encode_enrol_request(EnrolRequest(run, sha256)),
    }
    return content_to_bytes(records[kind]())


def asked(sites: ServedSites, kind: str) -> bytes:
    """The answer to an honest request."""
    head = head_of(kind, "1", sites.local)
    return sites.first.answer(Request(head, content_of(kind, sites.local)))


def knock(sites: ServedSites, log: Records, door: str, request: Request) -> bytes:
    """One hostile request; whatever comes back is judged."""
    log.take()
    before = sites.charges()
    with knocked(door, repr(request).encode()) as said:
        answer = sites.first.answer(request)
    judged(answer, log.take(), sites, before, said)
    return answer


@pytest.mark.parametrize("kind", TYPES)
def test_messages_of_every_type(sites: ServedSites, log: Records, kind: str) -> None:
    config = sites.local
    valid = content_of(kind, config)

    @share(0.09)
    @given(hostile(lambda r: hostile_record(r, valid)))
    def fuzzed(body: bytes) -> None:
        knock(sites, log, f"agent: {kind}", Request(head_of(kind, "1", config), body))

    fuzzed()
    assert not is_refusal(_content(asked(sites, ENROL_QUERY)))


def hostile_head(r: Random, config: RunConfig) -> RequestHead:
    """What a relay says beside the message: types, groups, configurations, signatures."""
    flat: dict[str, Any] = dict(config.to_flat())
    for _ in range(r.randint(0, 2)):
        key = r.choice([*sorted(flat), "data.sites_folder", "no.such", text(r)[:200]])
        flat.pop(key, None)
        if r.random() < 0.7:
            flat[key] = r.choice([text(r), number(r), r.choice(FLOATS), True])
    return RequestHead.model_construct(
        message_type=r.choice([*TYPES, *TYPES, SUM_QUERY, "system", text(r)[:200]]),
        group=r.choice(["1", "0", "-1", "²", "9" * 17, text(r)[:200]]),
        run_config=flat,
        code_sha256=r.choice(["", "a" * 64]),
        signatures=(),
    )


def test_heads_and_configurations(sites: ServedSites, log: Records) -> None:
    config = sites.local
    contents = [content_of(kind, config) for kind in TYPES]

    @share(0.06)
    @given(choices())
    def fuzzed(r: Random) -> None:
        request = Request(hostile_head(r, config), r.choice(contents))
        knock(sites, log, "agent: heads", request)

    fuzzed()


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_of_a_secure_sum(summed: ServedSites, log: Records, stage: str) -> None:
    """A hostile message ends the site's part; what the site kept of the round is put back."""
    summed.run = f"run-{stage}"
    walk = Walk(summed)
    walk.to(stage)
    kept = summed.first.ledger.path.parent / "secagg" / "rounds.json"
    state = kept.read_bytes() if kept.exists() else None
    config, payload = summed.config, walk.payloads[FIRST]
    valid = content_to_bytes(encode_sum_request(walk.request(FIRST)))
    others = [each for name, each in walk.payloads.items() if name != FIRST] or [b""]

    def made(r: Random) -> bytes:
        sort = r.randint(0, 3)
        if sort == 0:
            return hostile_record(r, valid)
        sent = r.choice([payload, *others])
        sent = sent if sort == 1 and sent != payload else hostile_bytes(r, sent)
        return content_to_bytes(encode_sum_request(walk.request(FIRST, sent)))

    @share(0.05)
    @given(hostile(made))
    def fuzzed(body: bytes) -> None:
        restore(kept, state)
        knock(summed, log, f"agent: sum, {stage}", Request(head_of(SUM_QUERY, "0", config), body))

    fuzzed()
    restore(kept, state)
    walk.to("over")  # and with honest messages the very same round comes to its end
    assert walk.total is not None


def restore(kept: Path, state: bytes | None) -> None:
    """What a site kept of its rounds, as it was."""
    if state is None:
        kept.unlink(missing_ok=True)
    else:
        kept.write_bytes(state)


def test_frames_at_the_real_socket(sites: ServedSites, log: Records, short_folder: Path) -> None:
    path = short_folder / "fuzzed" / "a.sock"
    frames = [
        frame(REQUEST, json.dumps(head_of(kind, "1", sites.local).model_dump()).encode(), body)
        for kind in TYPES
        for body in [content_of(kind, sites.local)]
    ]
    limits = Limits(read_s=5.0, frame_s=5.0)
    with serving(path, answer=sites.first.answer, limits=limits):

        @share(0.06)
        @given(hostile(lambda r: hostile_bytes(r, r.choice(frames))))
        def fuzzed(sent: bytes) -> None:
            log.take()
            before = sites.charges()
            with knocked("agent: socket", sent) as said:
                answer = exchanged(path, sent)
            judged(answer, log.take(), sites, before, said)

        fuzzed()
        answer = exchanged(path, frames[TYPES.index(ENROL_QUERY)])
    assert not is_refusal(_content(answer))


def exchanged(path: Path, sent: bytes) -> bytes:
    """The frame that comes back for these bytes, as bytes."""
    with connected(path) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why before
            connection.sendall(sent)
            if not is_whole(sent):  # else the agent takes it for a peer that has gone
                connection.shutdown(socket.SHUT_WR)
        return frame(*read_frame(connection, Limits(read_s=60.0)))


def is_whole(sent: bytes) -> bool:
    """Whether all came that the prelude announces."""
    if len(sent) < PRELUDE.size:
        return False
    _, _, head, body = PRELUDE.unpack(sent[: PRELUDE.size])
    return len(sent) >= PRELUDE.size + int(head) + int(body)


def _content(answer: bytes) -> RecordDict:
    found = parse_answer(frame_of(answer))
    assert isinstance(found, RecordDict), found
    return found

"""The ClientApp through Flower's own call; only `agent_for` is led to a scripted agent."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

import client.answering
import client.app
from common.adapters import shapes
from common.config import RunConfig
from common.errors import BudgetRefusal, DataError, FedrecError
from common.messages import (
    EvaluateReply,
    EvaluateRequest,
    PopularityReply,
    PopularityRequest,
    RefusalReply,
    TrainReply,
    TrainRequest,
    decode_evaluate_reply,
    decode_popularity_reply,
    decode_refusal,
    decode_train_reply,
    encode_evaluate_request,
    encode_popularity_request,
    encode_train_request,
)
from common.metrics import MetricSums
from common.release_record import counts_payload
from simulations.inprocess_grid import FIRST_NODE_ID, InProcessGrid
from tests.scripted_sites import release_record, small_adapter, small_config

NO_PRIOR = np.zeros(0, dtype=np.float32)
SHAPES = shapes(small_adapter())


class ScriptedAgent:
    """Answers like a site agent; raises `fault` instead, if there is one."""

    data = SimpleNamespace(site="site-0000")

    def __init__(self, config: RunConfig, fault: Exception | None = None) -> None:
        self.sha256 = config.sha256()
        self.fault = fault
        self.requests: list[Any] = []

    def _hear(self, request: Any) -> None:
        self.requests.append(request)
        if self.fault is not None:
            raise self.fault

    def train(self, request: TrainRequest) -> TrainReply:
        self._hear(request)
        update = small_adapter(0.5)
        release = release_record("site-0000", update, server_round=request.server_round)
        return TrainReply("site-0000", request.server_round, self.sha256, update, release, 9)

    def popularity(self, request: PopularityRequest) -> PopularityReply:
        self._hear(request)
        counts = np.ones(4, dtype=np.float32)
        release = release_record(
            "site-0000", counts_payload(counts), server_round=0, kind="popularity"
        )
        return PopularityReply("site-0000", self.sha256, counts, release, 9)

    def evaluate(self, request: EvaluateRequest) -> EvaluateReply:
        self._hear(request)
        release = release_record(
            "site-0000", {}, server_round=3, kind="metrics", mechanism="exact_lab_only"
        )
        sums = MetricSums(2, 1.0, 1.0, 0.5, 0.5, 0.25)
        return EvaluateReply("site-0000", request.server_round, self.sha256, sums, release)


@pytest.fixture
def config() -> RunConfig:
    return small_config(1)


@pytest.fixture
def agent(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> ScriptedAgent:
    scripted = ScriptedAgent(config)
    monkeypatch.setattr(client.answering, "agent_for", lambda *asked: scripted)
    monkeypatch.setattr(client.answering, "adapter_shapes", lambda run_config: SHAPES)
    return scripted


def ask(
    config: RunConfig, content: RecordDict, kind: str, node_config: dict[str, Any] | None = None
) -> RecordDict:
    """Sends one message to the real app, in a simulated node unless told otherwise."""
    flat = config.to_flat()
    InProcessGrid(client.app.app, 1, 5, flat)  # sets the identity that messages carry
    message = Message(content, FIRST_NODE_ID, kind, group_id="3")
    context = Context(
        run_id=5,
        node_id=FIRST_NODE_ID,
        node_config=node_config if node_config is not None else {"partition-id": 0},
        state=RecordDict(),
        run_config=flat,
    )
    return client.app.app(message, context).content


def train_content(config: RunConfig, sha256: str | None = None) -> RecordDict:
    request = TrainRequest("run", 3, sha256 or config.sha256(), small_adapter(0.25), NO_PRIOR)
    return encode_train_request(request)


def refused(content: RecordDict) -> RefusalReply:
    return decode_refusal(content, server_round=3)


def test_a_train_request_is_decoded_asked_and_encoded(
    config: RunConfig, agent: ScriptedAgent
) -> None:
    reply = decode_train_reply(
        ask(config, train_content(config), "train"),
        run="run",
        server_round=3,
        config_sha256=config.sha256(),
        shapes=SHAPES,
    )
    np.testing.assert_array_equal(reply.update["head.weight"], small_adapter(0.5)["head.weight"])
    (request,) = agent.requests
    np.testing.assert_array_equal(
        request.adapter["head.weight"], small_adapter(0.25)["head.weight"]
    )


def test_popularity_and_evaluation_go_the_same_way(config: RunConfig, agent: ScriptedAgent) -> None:
    sha256 = config.sha256()
    content = encode_popularity_request(PopularityRequest("run", sha256))
    answer = ask(config, content, "query.popularity")
    assert decode_popularity_reply(answer, run="run", config_sha256=sha256).counts.sum() == 4
    asked = EvaluateRequest("run", 3, sha256, small_adapter(), NO_PRIOR, "test")
    answer = ask(config, encode_evaluate_request(asked), "evaluate")
    reply = decode_evaluate_reply(answer, run="run", server_round=3, config_sha256=sha256)
    assert reply.sums.users == 2
    assert agent.requests[1].stage == "test"


def test_a_refusal_says_its_class_and_its_line(config: RunConfig, agent: ScriptedAgent) -> None:
    agent.fault = BudgetRefusal("ε would be 8.2 of 8")
    assert refused(ask(config, train_content(config), "train")) == RefusalReply(
        "site-0000", 3, "BudgetRefusal", "ε would be 8.2 of 8"
    )


def test_another_configuration_is_a_message_error(config: RunConfig, agent: ScriptedAgent) -> None:
    reply = refused(ask(config, train_content(config, "b" * 64), "train"))
    assert reply.code == "MessageError"
    assert "config_sha256" in reply.reason
    assert agent.requests == []


def test_an_unreadable_message_is_a_message_error(config: RunConfig, agent: ScriptedAgent) -> None:
    assert refused(ask(config, RecordDict(), "train")).code == "MessageError"


def test_a_wrong_run_config_lists_its_faults(config: RunConfig, agent: ScriptedAgent) -> None:
    wrong = SimpleNamespace(to_flat=lambda: config.to_flat() | {"model.typo": 1})
    reply = refused(ask(wrong, train_content(config), "train"))  # type: ignore[arg-type]
    assert reply.code == "ConfigError"
    assert "model.typo" in reply.reason


SECRET = "user u17 rated 'a secret film' twice"


@pytest.mark.parametrize("fault", [RuntimeError(SECRET), ValueError(SECRET), MemoryError(SECRET)])
def test_an_unexpected_failure_keeps_its_text_at_the_site(
    config: RunConfig, agent: ScriptedAgent, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    agent.fault = fault
    reply = refused(ask(config, train_content(config), "train"))
    assert reply.code == type(fault).__name__
    assert SECRET not in reply.reason
    assert "log" in reply.reason
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text


def test_a_deployed_site_keeps_data_errors_to_itself_a_simulated_one_tells(
    config: RunConfig, agent: ScriptedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    agent.fault = DataError(SECRET)
    simulated = refused(ask(config, train_content(config), "train"))
    assert simulated.reason == SECRET
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        deployed = refused(
            ask(config, train_content(config), "train", {"site-folder": "/srv/site"})
        )
    assert (deployed.code, SECRET in deployed.reason) == ("DataError", False)
    assert SECRET in caplog.text


def test_a_deployed_site_still_says_why_it_refuses(config: RunConfig, agent: ScriptedAgent) -> None:
    agent.fault = BudgetRefusal("ε would be 8.2 of 8")
    reply = refused(ask(config, train_content(config), "train", {"site-folder": "/srv/site"}))
    assert reply.reason == "ε would be 8.2 of 8"


def test_a_fault_before_the_site_is_known_names_no_site(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_agent(*asked: Any) -> Any:
        raise FedrecError("no folder for this node")

    monkeypatch.setattr(client.answering, "agent_for", no_agent)
    reply = refused(ask(config, train_content(config), "train"))
    assert (reply.site, reply.reason) == ("", "no folder for this node")


def test_an_interruption_passes_through(config: RunConfig, agent: ScriptedAgent) -> None:
    interruption: Any = KeyboardInterrupt()
    agent.fault = interruption
    with pytest.raises(KeyboardInterrupt):
        ask(config, train_content(config), "train")

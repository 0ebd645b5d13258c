"""The Flower ClientApp: decodes a message, asks the site agent, encodes the answer.

It decides nothing: policy, ledger, data and release are the agent's. Every fault becomes
a `RefusalReply`; a traceback stays in the site's own log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.agent import SiteAgent, agent_for
from common.adapters import shapes
from common.config import RunConfig
from common.config_loading import load_config
from common.errors import FedrecError, MessageError, Refusal
from common.initial_adapter import initial_adapter
from common.messages import (
    RefusalReply,
    decode_evaluate_request,
    decode_popularity_request,
    decode_train_request,
    encode_evaluate_reply,
    encode_popularity_reply,
    encode_refusal,
    encode_train_reply,
)

logger = logging.getLogger(__name__)

app = ClientApp()

Handler = Callable[[SiteAgent, RunConfig, RecordDict], RecordDict]


@app.query("popularity")
def popularity(message: Message, context: Context) -> Message:
    """Answers the popularity request."""

    def handle(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
        request = decode_popularity_request(content, config_sha256=config.sha256())
        return encode_popularity_reply(agent.popularity(request))

    return answer(message, context, handle)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answers a train request."""

    def handle(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
        request = decode_train_request(
            content, config_sha256=config.sha256(), shapes=adapter_shapes(config)
        )
        return encode_train_reply(agent.train(request))

    return answer(message, context, handle)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answers an evaluate request."""

    def handle(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
        request = decode_evaluate_request(
            content, config_sha256=config.sha256(), shapes=adapter_shapes(config)
        )
        return encode_evaluate_reply(agent.evaluate(request))

    return answer(message, context, handle)


def answer(message: Message, context: Context, handle: Handler) -> Message:
    """The reply to `message`: what `handle` encodes, or a refusal with one line.

    What leaves a deployed site in a refusal is only text that is known to hold no data:
    that of a refusal or of a broken message. A simulated node (it has a `partition-id`)
    sends the line of every error that fedrec raises on purpose.
    """
    site = ""
    try:
        config = load_config(flat=context.run_config)
        agent = agent_for(context.node_config, config)
        site = agent.data.site
        content = handle(agent, config, message.content)
    except FedrecError as fault:
        logger.warning("%s: %s", type(fault).__name__, fault)
        may_leave = isinstance(fault, Refusal | MessageError) or "partition-id" in (
            context.node_config
        )
        content = _refusal(message, site, fault, str(fault) if may_leave else None)
    except Exception as fault:
        logger.exception("unexpected failure while answering %s", message.metadata.message_type)
        content = _refusal(message, site, fault, None)
    return Message(content, reply_to=message)


@lru_cache(maxsize=4)
def adapter_shapes(config: RunConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the adapter that `config` defines."""
    return shapes(initial_adapter(config))


def _refusal(message: Message, site: str, fault: Exception, reason: str | None) -> RecordDict:
    group = message.metadata.group_id
    server_round = int(group) if group.isdecimal() else 0
    text = reason if reason is not None else "failed at the site; the site's log has the details"
    return encode_refusal(RefusalReply(site, server_round, type(fault).__name__, text))

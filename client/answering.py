"""From a message's content to the answer's: decode, ask the site agent, encode.

It decides nothing: policy, ledger, data and release are the agent's. Every fault becomes a
`RefusalReply`; a traceback stays in the site's own log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from flwr.app import RecordDict, UserConfig

from client.agent import SiteAgent, agent_for
from common.config import RunConfig
from common.config_loading import load_config
from common.errors import FedrecError, MessageError, Refusal
from common.initial_adapter import adapter_shapes
from common.messages import (
    ENROL_QUERY,
    POPULARITY_QUERY,
    SUM_QUERY,
    NoisedMetricsReply,
    RefusalReply,
    decode_enrol_request,
    decode_evaluate_request,
    decode_popularity_request,
    decode_sum_request,
    decode_train_request,
    encode_enrol_reply,
    encode_evaluate_reply,
    encode_noised_metrics_reply,
    encode_popularity_reply,
    encode_refusal,
    encode_sum_reply,
    encode_train_reply,
)

logger = logging.getLogger(__name__)

Handler = Callable[[SiteAgent, RunConfig, RecordDict], RecordDict]


def answer(
    message_type: str,
    group: str,
    content: RecordDict,
    run_config: UserConfig,
    node_config: Mapping[str, object],
) -> RecordDict:
    """What a site answers: what its handler encodes, or a refusal with one line.

    What leaves a deployed site in a refusal is only text that is known to hold no data:
    that of a refusal or of a broken message. A simulated node (it has a `partition-id`)
    sends the line of every error that fedrec raises on purpose.

    Args:
        message_type: Flower's type of the message, a key of `HANDLERS`.
        group: the message's group, the number of its round.
        content: the message's content.
        run_config: the run's configuration as Flower carries it.
        node_config: of this node; see `client.agent.agent_for`.
    """
    site = ""
    try:
        config = load_config(flat=run_config)
        agent = agent_for(node_config, config)
        site = agent.data.site
        return HANDLERS[message_type](agent, config, content)
    except FedrecError as fault:
        logger.warning("%s: %s", type(fault).__name__, fault)
        may_leave = isinstance(fault, Refusal | MessageError) or "partition-id" in node_config
        return _refusal(group, site, fault, str(fault) if may_leave else None)
    except Exception as fault:
        logger.exception("unexpected failure while answering %s", message_type)
        return _refusal(group, site, fault, None)


def _popularity(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
    request = decode_popularity_request(content, config_sha256=config.sha256())
    return encode_popularity_reply(agent.popularity(request))


def _train(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
    request = decode_train_request(
        content, config_sha256=config.sha256(), shapes=adapter_shapes(config)
    )
    return encode_train_reply(agent.train(request))


def _evaluate(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
    request = decode_evaluate_request(
        content, config_sha256=config.sha256(), shapes=adapter_shapes(config)
    )
    reply = agent.evaluate(request)
    if isinstance(reply, NoisedMetricsReply):
        return encode_noised_metrics_reply(reply)
    return encode_evaluate_reply(reply)


def _enrol(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
    request = decode_enrol_request(content, config_sha256=config.sha256())
    return encode_enrol_reply(agent.enrol(request))


def _add_up(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
    request = decode_sum_request(
        content, config_sha256=config.sha256(), shapes=adapter_shapes(config)
    )
    return encode_sum_reply(agent.add_up(request))


HANDLERS: Mapping[str, Handler] = {
    ENROL_QUERY: _enrol,
    POPULARITY_QUERY: _popularity,
    SUM_QUERY: _add_up,
    "train": _train,
    "evaluate": _evaluate,
}


def _refusal(group: str, site: str, fault: Exception, reason: str | None) -> RecordDict:
    server_round = int(group) if group.isdecimal() else 0
    text = reason if reason is not None else "failed at the site; the site's log has the details"
    return encode_refusal(RefusalReply(site, server_round, type(fault).__name__, text))

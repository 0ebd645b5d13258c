"""From a message's content to the answer's: decode, ask the site agent, encode.

It decides nothing: policy, ledger, data and release are the agent's. Every fault becomes a
`RefusalReply`; a traceback stays in the site's own log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from flwr.app import RecordDict, UserConfig

from client.agent import SiteAgent, agent_for
from client.refusal_reply import refusal_reply
from client.site_by_site import SITE_BY_SITE
from client.training_job import Trainer
from common.config import RunConfig
from common.config_loading import load_config
from common.errors import FedrecError, MessageError, Refusal
from common.initial_adapter import adapter_shapes
from common.messages import (
    COOCCURRENCE_QUERY,
    ENROL_QUERY,
    POPULARITY_QUERY,
    SUM_QUERY,
    NoisedMetricsReply,
    decode_cooccurrence_request,
    decode_enrol_request,
    decode_evaluate_request,
    decode_popularity_request,
    decode_sum_request,
    decode_train_request,
    encode_cooccurrence_reply,
    encode_enrol_reply,
    encode_evaluate_reply,
    encode_noised_metrics_reply,
    encode_popularity_reply,
    encode_sum_reply,
    encode_train_reply,
)
from common.one_line import one_line

logger = logging.getLogger(__name__)

_LOGGED = 4000  # characters of a fault: it may quote what a coordinator sent

Handler = Callable[[SiteAgent, RunConfig, RecordDict], RecordDict]


def answer(
    message_type: str,
    group: str,
    content: RecordDict,
    run_config: UserConfig,
    node_config: Mapping[str, object],
    trainer: Trainer | None = None,
) -> RecordDict:
    """What a site answers in the ClientApp's own process; see `answer_by`.

    A simulated node (it has a `partition-id`) sends the line of every error that fedrec
    raises on purpose.

    Args:
        message_type: Flower's type of the message, a key of `HANDLERS`.
        group: the message's group, the number of its round.
        content: the message's content.
        run_config: the run's configuration as Flower carries it.
        node_config: of this node; see `client.agent.agent_for`.
        trainer: computes the site's training; None: the site by itself.
    """

    def find_agent() -> tuple[SiteAgent, RunConfig]:
        config = load_config(flat=run_config)
        return agent_for(node_config, config, trainer or SITE_BY_SITE), config

    tells_all = "partition-id" in node_config
    return answer_by(find_agent, message_type, group, content, tells_all=tells_all)


def answer_by(
    find_agent: Callable[[], tuple[SiteAgent, RunConfig]],
    message_type: str,
    group: str,
    content: RecordDict,
    *,
    site: str = "",
    tells_all: bool = False,
) -> RecordDict:
    """What a site answers: what its handler encodes, or a refusal with one line.

    What leaves a site in a refusal is only text that is known to hold no data: that of a
    refusal or of a broken message.

    Args:
        find_agent: the agent that is asked, and the checked configuration of the run.
        message_type: Flower's type of the message, a key of `HANDLERS`.
        group: the message's group, the number of its round.
        content: the message's content.
        site: the site's name, if it is known before the agent is.
        tells_all: whether the line of every error that fedrec raises on purpose may leave.
    """
    try:
        agent, config = find_agent()
        site = agent.data.site
        if message_type not in HANDLERS:
            raise MessageError(f"this site answers no messages of type {message_type[:80]!a}")
        return HANDLERS[message_type](agent, config, content)
    except FedrecError as fault:
        logger.warning("%s: %s", type(fault).__name__, one_line(str(fault), _LOGGED))
        if tells_all or isinstance(fault, Refusal | MessageError):
            return refusal_reply(group, site, fault, str(fault))
        return refusal_reply(group, site, fault)
    except Exception as fault:
        logger.exception("unexpected failure while answering %a", message_type[:80])
        return refusal_reply(group, site, fault)


def _popularity(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
    request = decode_popularity_request(content, config_sha256=config.sha256())
    return encode_popularity_reply(agent.popularity(request))


def _cooccurrence(agent: SiteAgent, config: RunConfig, content: RecordDict) -> RecordDict:
    request = decode_cooccurrence_request(content, config_sha256=config.sha256())
    return encode_cooccurrence_reply(agent.cooccurrence(request))


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
    COOCCURRENCE_QUERY: _cooccurrence,
    SUM_QUERY: _add_up,
    "train": _train,
    "evaluate": _evaluate,
}

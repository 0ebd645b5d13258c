"""The bundle's side of the socket: hands a message to the resident agent, and the answer back.

It imports no model code: Flower starts a process per message, and this one is light. It
decides nothing and is trusted with nothing; the agent checks all that it says.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress

from flwr.app import RecordDict, UserConfig
from pydantic import ValidationError

from client.resident.protocol import (
    Limits,
    RequestHead,
    encode_request,
    parse_answer,
    read_frame,
)
from common.bundle_hash import bundle_root, bundle_sha256, bundle_signatures
from common.errors import FedrecError, MessageError, SiteAgentError
from common.logs import configure_flower_log

AGENT_SOCKET = "agent-socket"
CONNECT_S = 10.0
DEFAULT_ANSWER_S = 3600.0

logger = logging.getLogger("flwr.fedrec")
"""A child of Flower's logger, whose handlers carry its lines."""


def relay(
    path: str, message_type: str, group: str, content: RecordDict, run_config: UserConfig
) -> RecordDict:
    """The resident agent's answer, or a refusal that says in one line why there is none.

    Args:
        path: of the agent's socket, from the node config's ``agent-socket``.
        message_type: Flower's type of the message.
        group: the message's group, the number of its round.
        content: the message's content.
        run_config: the run's configuration as Flower carries it.
    """
    told = {"message_type": message_type, "server_round": group}
    try:
        configure_flower_log()
        answer = ask_agent(path, message_type, group, content, run_config)
        logger.info("%a in group %a: the site agent answered", *told.values(), extra=told)
        return answer
    except FedrecError as fault:
        code = type(fault).__name__
        about = {**told, "code": code}
        logger.warning("%a in group %a: %s: %s", *told.values(), code, fault, extra=about)
        from client.refusal_reply import refusal_reply  # only here: it brings torch along

        return refusal_reply(group, "", fault, str(fault))


def ask_agent(
    path: str, message_type: str, group: str, content: RecordDict, run_config: UserConfig
) -> RecordDict:
    """As `relay`, but raises.

    Raises:
        SiteAgentError: the agent cannot be reached, or did not answer.
        MessageError: what came back is no answer.
    """
    request = encode_request(_head(message_type, group, run_config), content)
    deadline = run_config.get("federation.round_deadline_s", DEFAULT_ANSWER_S)
    wait_s = float(deadline) if isinstance(deadline, int | float) else DEFAULT_ANSWER_S
    try:
        answer = _exchange(path, request, Limits(read_s=wait_s, frame_s=wait_s))
    except FileNotFoundError:
        raise SiteAgentError("no site agent listens here; start `fedrec-site run`") from None
    except ConnectionRefusedError:
        raise SiteAgentError("the site agent has ended; start `fedrec-site run`") from None
    except BlockingIOError:
        raise SiteAgentError("the site agent is busy; try again later") from None
    except PermissionError:
        raise SiteAgentError(
            "this SuperNode's user may not open the agent's socket; give it the socket's group"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a path that no socket can have
        raise SiteAgentError(f"the site agent did not answer: {error}") from error
    if isinstance(answer, str):
        raise SiteAgentError(answer)
    return answer


def _head(message_type: str, group: str, run_config: UserConfig) -> RequestHead:
    root = bundle_root()
    try:
        return RequestHead(
            message_type=message_type,
            group=group,
            run_config=dict(run_config),
            code_sha256=bundle_sha256(root),
            signatures=bundle_signatures(root),
        )
    except ValidationError as error:
        raise MessageError(
            f"a message of type {message_type[:80]!a} cannot be handed to the site agent"
        ) from error


def _exchange(path: str, request: bytes, limits: Limits) -> RecordDict | str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_S)
        connection.connect(path)
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why before
            connection.sendall(request)
        try:
            found = read_frame(connection, limits)
        except MessageError as fault:
            raise SiteAgentError(f"the site agent did not answer: {fault}") from fault
        return parse_answer(found)

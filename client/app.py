"""The Flower ClientApp: one code path, two transports.

Where the node config names an ``agent-socket``, a message's content goes to the resident
site agent that listens there, and this process loads neither data nor model. Otherwise, in
a simulation, `client.answering` answers in this process. Either way the same agent decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.resident.relay import AGENT_SOCKET, relay

if TYPE_CHECKING:  # a relaying process loads no model code
    from client.training_job import Trainer


def build_client_app(trainer: Trainer | None = None) -> ClientApp:
    """Builds the ClientApp.

    Args:
        trainer: computes the training of the agents in this process; None: each site by
            itself. A resident agent has its own, whatever is named here.
    """
    client_app = ClientApp()

    def reply(message: Message, context: Context) -> Message:
        return _reply(message, context, trainer)

    for kind in ("popularity", "cooccurrence", "enrol", "sum"):
        client_app.query(kind)(reply)
    client_app.train()(reply)
    client_app.evaluate()(reply)
    return client_app


def _reply(message: Message, context: Context, trainer: Trainer | None) -> Message:
    """The site's answer to `message`, by its type."""
    metadata, node_config = message.metadata, context.node_config
    asked = (metadata.message_type, metadata.group_id, message.content, context.run_config)
    if AGENT_SOCKET in node_config:
        content = relay(str(node_config[AGENT_SOCKET]), *asked)
    else:
        from client.answering import answer  # only here: it brings all of torch along

        content = answer(*asked, node_config, trainer)
    return Message(content, reply_to=message)


app = build_client_app()

"""The Flower ClientApp: one code path, two transports.

Where the node config names an ``agent-socket``, a message's content goes to the resident
site agent that listens there, and this process loads neither data nor model. Otherwise, in
a simulation, `client.answering` answers in this process. Either way the same agent decides.
"""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.resident.relay import AGENT_SOCKET, relay

app = ClientApp()


@app.query("popularity")
def popularity(message: Message, context: Context) -> Message:
    """Answers the popularity request."""
    return reply(message, context)


@app.query("enrol")
def enrol(message: Message, context: Context) -> Message:
    """Answers the request for what the site declares in public."""
    return reply(message, context)


@app.query("sum")
def add_up(message: Message, context: Context) -> Message:
    """Answers one stage of a sum over all sites."""
    return reply(message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answers a train request."""
    return reply(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answers an evaluate request."""
    return reply(message, context)


def reply(message: Message, context: Context) -> Message:
    """The site's answer to `message`, by its type."""
    metadata, node_config = message.metadata, context.node_config
    asked = (metadata.message_type, metadata.group_id, message.content, context.run_config)
    if AGENT_SOCKET in node_config:
        content = relay(str(node_config[AGENT_SOCKET]), *asked)
    else:
        from client.answering import answer  # only here: it brings all of torch along

        content = answer(*asked, node_config)
    return Message(content, reply_to=message)

"""The Flower ClientApp: hands a message's content to `client.answering`, and the answer back."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.answering import answer

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
    metadata = message.metadata
    content = answer(
        metadata.message_type,
        metadata.group_id,
        message.content,
        context.run_config,
        context.node_config,
    )
    return Message(content, reply_to=message)

"""In place of fedrec's client: no checks, no relay, and straight at the agent's socket.

The node's operator gave the SuperNode a user of its own. Where the test runs as root, the
attack is made by a child that became that user; what it needs is imported before.
"""

from __future__ import annotations

import os

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.attack import Attack

app = ClientApp()


@app.query()
def attack(message: Message, context: Context) -> Message:
    made = Attack(context.node_config, dict(context.run_config))
    child = os.fork()
    if child == 0:
        try:
            uid = int(str(context.node_config.get("uid", os.getuid())))
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            made.run()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return Message(RecordDict(), reply_to=message)

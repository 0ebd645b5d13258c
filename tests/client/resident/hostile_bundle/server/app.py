"""A coordinator that means harm: it lets its own client code loose on every node."""

from __future__ import annotations

import time

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    end = time.monotonic() + 60
    while not (nodes := list(grid.get_node_ids())) and time.monotonic() < end:
        time.sleep(0.2)
    content = RecordDict({"go": ConfigRecord({"now": 1})})
    messages = [Message(content, node, "query") for node in nodes]
    list(grid.send_and_receive(messages, timeout=400))

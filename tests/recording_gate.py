"""The gate of a deployment, with a copy of all that goes through it: `FOLDER RECORD`.

It serves what `fedrec-server gate` serves, in a process of its own. The copy is taken where the
gate has ended the sites' TLS, so it is what the SuperLink hears and says in the clear.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import gate
from server.server_folder import ServerFolder

APART = b"\xff" * 16


class Recorder:
    """Writes each request with its answer to a file of its own; see the module's docstring."""

    def __init__(self, app: ASGIApp, record: Path) -> None:
        """Binds what is recorded and the folder for it."""
        self._app, self._record, self._numbers = app, record, itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of the ASGI server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = f"{next(self._numbers):06d}-{scope['path'].rpartition('/')[2]}"
        asked, answered, heads = bytearray(), bytearray(), [_text(scope["headers"])]

        async def heard() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start":
                heads.append(_text(message["headers"]))
            answered.extend(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, heard, said)
        finally:
            parts = [scope["raw_path"], scope["query_string"], *heads, asked, answered]
            (self._record / name).write_bytes(APART.join(parts))


def _text(headers: list[tuple[bytes, bytes]]) -> bytes:
    pairs = [[each.decode("latin-1") for each in pair] for pair in headers]
    return json.dumps(pairs).encode()


if __name__ == "__main__":
    folder, record = ServerFolder(Path(sys.argv[1])), Path(sys.argv[2])
    record.mkdir(exist_ok=True)
    gate_app = gate.gate_app

    def recorded(*arguments: object, **options: object) -> ASGIApp:
        return Recorder(gate_app(*arguments, **options), record)  # type: ignore[arg-type]

    gate.gate_app = recorded  # type: ignore[assignment]
    gate.serve_gate(folder)

"""What may arrive at the gate: it passes on what a listed node may ask, and refuses the rest."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random

import httpx
import pytest
import uvicorn
from hypothesis import given
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from server.gate import NODE_KEY_HEADER, gate_routes
from server.site_keys import SiteKeys
from tests.fuzzing.counting import knocked, share, sort_of
from tests.fuzzing.mutations import hostile, hostile_bytes, some_bytes, text
from tests.fuzzing.served_sites import is_a_line, is_of_own_lines, recorded
from tests.server.test_gate import new_key

LIMIT = 4096


@dataclass
class Gate:
    """A gate on a real socket, by itself; in front of an app that notes what reached it."""

    port: int
    key: str
    reached: list[tuple[str, str | None, int]] = field(default_factory=list)

    def say(self, content: bytes, patience_s: float = 0.05) -> bytes:
        """All that comes back for these bytes.

        Once nothing has come for `patience_s` the client closes its side, so that the gate
        waits no longer for the rest of a request that is too short. It does not do so at once:
        the gate may hang up on a client that half-closes, without an answer.
        """
        found = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            with suppress(OSError):  # the gate has hung up
                connection.sendall(content)
            connection.settimeout(patience_s)
            try:
                _take_all(connection, found)
            except TimeoutError:
                connection.settimeout(20)
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                _take_all(connection, found)
        return bytes(found)

    def request(self, path: str = "/v1/fleet/pull-messages", body: bytes = b"abc") -> bytes:
        """An honest request."""
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: gate",
            f"{NODE_KEY_HEADER}: {self.key}",
            "flwr-signature: c2lnbmVk",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _take_all(connection: socket.socket, found: bytearray) -> None:
    """What comes until the other side ends, or longer nothing comes than the socket waits."""
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            found += part


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gate]:
    keys = tmp_path_factory.mktemp("keys")
    content, header = new_key()
    (keys / "north.pub").write_bytes(content)
    made = Gate(0, header[NODE_KEY_HEADER])

    async def superlink(request: Request) -> Response:
        body = await request.body()
        made.reached.append((request.url.path, request.headers.get(NODE_KEY_HEADER), len(body)))
        return PlainTextResponse("the superlink's answer")

    app = Starlette(routes=[Route("/{path:path}", superlink, methods=["GET", "POST"])])
    upstream = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://superlink")
    served = Starlette(routes=gate_routes(upstream, SiteKeys(keys), LIMIT))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        made.port = listener.getsockname()[1]
        config = uvicorn.Config(
            served, log_config=None, access_log=False, lifespan="off", ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield made
        server.should_exit = True
        thread.join()


PATHS = (
    "/v1/fleet/..", "/v1/fleet/%2e%2e", "/v1/fleet/..%2fcontrol%2fstart-run",
    "/v1/fleet/a%0d%0aX-Own:%20yes", "/v1/fleet/a%3fb%23c", "/v1/fleet/%ff%fe%00", "/v1/fleet/%",
    "/v1/fleet/a%09b%20c%7f", "//v1/fleet/x", "/v1/fleet//x", "/v1/control/start-run",
    "http://other/v1/fleet/x", "/v1/fleet/" + "x" * 9000, "/v1/fleet/[::1", "/v1/fleet/a:b@c",
    "/v1/fleet/%E2%80%AE", "/health", "*", "",
)  # fmt: skip
LINES = (
    b"flwr-timestamp: \xff\xfe\xe9", b"flwr-signature: \xc3\xa9", b"x-\xe9: 1",
    b"Content-Length: 1", b"Upgrade: websocket", b"Expect: 100-continue",
    b"Accept-Encoding: gzip, x", b"Cookie: a=b", b"Host: second", b"x-long: " + b"y" * 9000,
    b"flwr-public-key: AAAA", b"TE: x",
)  # fmt: skip


def hostile_request(r: Random, gate: Gate) -> bytes:
    """A request with something wrong in its line, its headers, its body or its bytes."""

    def mostly(usual: str, *others: str) -> str:
        return usual if r.random() < 0.75 else r.choice(others)

    path = mostly(f"/v1/fleet/{r.randint(0, 10**9)}", *PATHS)
    key = mostly(gate.key, gate.key[:-4], "", "!!", "é", base64.b64encode(some_bytes(r)).decode())
    body = bytes(r.choice([0, 3, r.randint(0, LIMIT), LIMIT, LIMIT + 1, 70_000]))
    length = mostly(str(len(body)), "-1", "9" * 30, "1e3", "", "0x10", "+3", "5_0", "٣")
    sizes = f"Content-Length: {length}"
    if r.random() < 0.15:
        sizes, body = "Transfer-Encoding: chunked", chunked(r, body)
    headers = [
        f"Host: {mostly('gate', '', 'a b', 'other:99999')}".encode(),
        f"{NODE_KEY_HEADER}: {key}".encode(),
        sizes.encode(),
        b"Connection: close",
        *(
            r.choice([*LINES, b"x: " + some_bytes(r), b"x: " + text(r).encode()[:99]])
            for _ in range(r.choice([0, 0, 1, 2]))
        ),
    ]
    r.shuffle(headers)
    verb = mostly("POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "po\x00st")
    content = f"{verb} {path} HTTP/1.{mostly('1', '0', '2')}\r\n".encode()
    content += b"\r\n".join(headers) + b"\r\n\r\n" + body
    return hostile_bytes(r, content) if r.random() < 0.15 else content


def chunked(r: Random, body: bytes) -> bytes:
    """A body in chunks, some of which lie about their size."""
    sizes = [r.choice([f"{len(body):x}", f"{len(body):x}", "ffffffff", "-1", "zz", "0"])]
    return b"".join(size.encode() + b"\r\n" + body + b"\r\n" for size in sizes) + b"0\r\n\r\n"


def test_requests_of_every_form(gate: Gate) -> None:
    with recorded("fedrec-server", "uvicorn.error", "uvicorn.asgi") as log:

        @share(0.12)
        @given(hostile(lambda r: hostile_request(r, gate)))
        def fuzzed(content: bytes) -> None:
            gate.reached.clear()
            log.take()
            with knocked("gate", content) as said:
                answer = gate.say(content)
            judge(gate, answer, said)
            noted = log.take()
            assert "Traceback" not in noted, noted
            assert is_of_own_lines(noted), noted

        fuzzed()
    answer = gate.say(gate.request(), patience_s=20)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"the superlink's answer")


def judge(gate: Gate, answer: bytes, said: dict[str, int]) -> None:
    """One answer, and what reached the SuperLink meanwhile."""
    for path, key, size in gate.reached:
        assert path == "/health" or (path.startswith("/v1/fleet/") and key == gate.key), path
        assert "/control" not in path
        assert "/runtime" not in path
        assert size <= LIMIT
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    status, _, rest = answer.partition(b"\r\n")
    if not answer:
        said["hung up"] = said.get("hung up", 0) + 1
        return
    number = int(status.split()[1])
    is_second = number == HTTPStatus.SERVICE_UNAVAILABLE and b"was made before" in rest
    assert is_second or number in (200, 400, 404, 405, 411, 412, 413, 426, 431, 499), status
    _, _, body = rest.partition(b"\r\n\r\n")
    assert b"Traceback" not in answer
    assert len(body) < 1000
    line = body.decode("utf-8")
    assert not line or is_a_line(line, 1000), line
    kind = f"{number} {sort_of(line[:120])}"
    said[kind] = said.get(kind, 0) + 1

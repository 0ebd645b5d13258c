"""The gate by itself, in front of a small app in the SuperLink's place."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from server.gate import MIB, NODE_KEY_HEADER, gate_routes
from server.site_keys import SiteKeys

LIMIT = 1 * MIB


async def echo(request: Request) -> Response:
    """Answers with what it was asked."""
    body = await request.body()
    seen = request.headers.get("flwr-signature", "")
    return PlainTextResponse(f"{request.url.path} {len(body)} {seen}", headers={"x-own": "yes"})


SUPERLINK = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])])


def new_key() -> tuple[bytes, dict[str, str]]:
    """A public key as its file has it, and the header of its node."""
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    openssh = public.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return openssh, {NODE_KEY_HEADER: base64.b64encode(pem).decode()}


def ask(keys: Path, upstream: httpx.AsyncBaseTransport, *asked: object, **more: object) -> Response:
    """One request through the gate."""

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=upstream, base_url="http://superlink"
        ) as to_superlink:
            app = Starlette(routes=gate_routes(to_superlink, SiteKeys(keys), LIMIT))
            inner = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=inner, base_url="http://gate") as client:
                return await client.request(*asked, **more)  # type: ignore[arg-type]

    return asyncio.run(run())  # type: ignore[return-value]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "sites").mkdir()
    return tmp_path / "sites"


def test_a_listed_node_reaches_fleet_and_nothing_else(keys: Path) -> None:
    content, header = new_key()
    (keys / "north.pub").write_bytes(content)
    upstream = httpx.ASGITransport(SUPERLINK)
    asked = {**header, "flwr-signature": "s"}
    answer = ask(keys, upstream, "POST", "/v1/fleet/pull-messages", headers=asked, content=b"abc")
    assert (answer.status_code, answer.text) == (200, "/v1/fleet/pull-messages 3 s")
    assert answer.headers["x-own"] == "yes"
    for path in ("/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task"):
        answer = ask(keys, upstream, "POST", path, headers=asked)
        assert answer.status_code == 404
        assert "serves sites only" in answer.json()["detail"]
    assert ask(keys, upstream, "GET", "/health").text.startswith("/health 0")


def test_an_unknown_key_is_refused_until_it_is_listed_and_after(keys: Path) -> None:
    content, header = new_key()
    upstream = httpx.ASGITransport(SUPERLINK)
    path = "/v1/fleet/activate-node"
    for headers in ({}, header, {NODE_KEY_HEADER: "no base64!"}):
        answer = ask(keys, upstream, "POST", path, headers=headers)
        assert answer.status_code == 412
        assert "unknown node key" in answer.json()["detail"]
    (keys / "north.pub").write_bytes(content)
    assert ask(keys, upstream, "POST", path, headers=header).status_code == 200
    (keys / "north.pub").unlink()
    assert ask(keys, upstream, "POST", path, headers=header).status_code == 412


def test_a_request_over_the_limit_goes_no_further(keys: Path) -> None:
    content, header = new_key()
    (keys / "north.pub").write_bytes(content)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(LIMIT // 2)

    async def passes_on(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("an oversized request reached the SuperLink")

    upstream = httpx.ASGITransport(passes_on)
    for body in (bytes(LIMIT + 1), chunks()):  # a stated length, and none
        answer = ask(keys, upstream, "POST", "/v1/fleet/push-object", headers=header, content=body)
        assert answer.status_code == 413
        assert answer.json()["detail"] == "the request of site north is larger than 1 MiB"


def test_a_superlink_that_is_away_is_told_as_such(keys: Path) -> None:
    content, header = new_key()
    (keys / "north.pub").write_bytes(content)
    nobody = httpx.AsyncHTTPTransport()  # no such host
    answer = ask(keys, nobody, "POST", "/v1/fleet/pull-messages", headers=header)
    assert answer.status_code == 503  # which a SuperNode tries again


def test_a_signed_time_is_passed_on_once_unless_the_superlink_refused_it(keys: Path) -> None:
    content, header = new_key()
    (keys / "north.pub").write_bytes(content)
    reached, path = [], "/v1/fleet/pull-messages"

    async def superlink(request: Request) -> Response:
        reached.append(request.headers["flwr-timestamp"])
        status = 401 if request.headers["flwr-timestamp"] == "forged" else 200
        return PlainTextResponse("x", status_code=status)

    app = Starlette(routes=[Route("/{path:path}", superlink, methods=["POST"])])

    async def run() -> list[httpx.Response]:
        upstream = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://s")
        gate = httpx.ASGITransport(Starlette(routes=gate_routes(upstream, SiteKeys(keys), LIMIT)))
        async with upstream, httpx.AsyncClient(transport=gate, base_url="http://gate") as client:
            return [
                await client.post(path, headers={**header, "flwr-timestamp": each})
                for each in ("one", "one", "two", "forged", "forged")
            ]

    answers = asyncio.run(run())
    assert [each.status_code for each in answers] == [200, 503, 200, 401, 401]
    said = "the request of site north was made before; a node signs each one anew"
    assert answers[1].json()["detail"] == said
    assert reached == ["one", "two", "forged", "forged"]


def test_a_request_from_before_the_gates_start_is_not_passed_on(keys: Path) -> None:
    content, header = new_key()
    (keys / "north.pub").write_bytes(content)
    started = datetime.now(UTC)

    async def run(*signed: datetime) -> list[httpx.Response]:
        upstream = httpx.AsyncClient(
            transport=httpx.ASGITransport(SUPERLINK), base_url="http://superlink"
        )
        routes = gate_routes(upstream, SiteKeys(keys), LIMIT, started=started)
        gate = httpx.ASGITransport(Starlette(routes=routes))
        async with upstream, httpx.AsyncClient(transport=gate, base_url="http://gate") as client:
            path = "/v1/fleet/pull-messages"
            return [
                await client.post(path, headers={**header, "flwr-timestamp": each.isoformat()})
                for each in signed
            ]

    before, after = started - timedelta(seconds=60), started + timedelta(seconds=6)
    refused, passed, again = asyncio.run(run(before, after, before))
    assert (refused.status_code, passed.status_code, again.status_code) == (503, 200, 503)
    assert "before this gate was started" in refused.json()["detail"]


def test_a_header_that_is_no_text_and_a_call_that_is_no_name_harm_nobody(keys: Path) -> None:
    content, header = new_key()
    (keys / "north.pub").write_bytes(content)
    upstream = httpx.ASGITransport(SUPERLINK)
    odd = [*header.items(), (b"x-odd", b"\xff\xe9")]
    assert ask(keys, upstream, "POST", "/v1/fleet/pull-messages", headers=odd).status_code == 200
    for call in ("..", "%2e%2e", "a%0d%0ab", "a%3fb", "A", "x" * 65):
        answer = ask(keys, upstream, "POST", f"/v1/fleet/{call}", headers=header)
        assert answer.status_code == 404, call

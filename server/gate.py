"""The gate: the one address that sites can reach, in front of Flower's SuperLink.

Flower 1.41 serves three interfaces on one port: Fleet (for SuperNodes), Control (for
`flwr run` and `flwr supernode register`) and Runtime (for ServerApps). Only Fleet asks who is
there; in the open distribution whoever reaches the port may register a node of their own, or
start a run. So the SuperLink listens on this machine alone, and the gate passes on nothing
but Fleet requests of bounded size that come from a listed node key. It ends the sites' TLS
and speaks TLS to the SuperLink, which checks the nodes' signatures as it always does.
"""

from __future__ import annotations

import base64
import binascii
import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from common.errors import FedrecError
from server.deployment_files import LOOPBACK
from server.server_folder import ServerFolder, ServerSettings
from server.site_keys import SiteKeys

NODE_KEY_HEADER = "flwr-public-key"
MIB = 1 << 20
ANSWER_S = 60.0
CONNECTIONS = 512
REFUSAL_CODE = 9000
"""Beside Flower's own error codes, which end below it."""

# Of one connection, not of the message (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding"})
_REQUEST_ONLY = _HOP_BY_HOP | {"host", "upgrade", "content-length"}
_ANSWER_ONLY = _HOP_BY_HOP | {"date", "server"}

logger = logging.getLogger("fedrec-server")


class Gate:
    """Passes on what a site may ask; see the module's docstring."""

    def __init__(self, upstream: httpx.AsyncClient, keys: SiteKeys, max_bytes: int) -> None:
        """Binds the SuperLink, the listed keys and the limit.

        Args:
            upstream: a client whose base URL is the SuperLink.
            keys: who is let in.
            max_bytes: of one request.
        """
        self._upstream = upstream
        self._keys = keys
        self._max_bytes = max_bytes

    async def fleet(self, request: Request) -> Response:
        """One request of a SuperNode."""
        site = self._site(request)
        if site is None:
            return _refused(
                412, "unknown node key; send node.pub to the coordinator, who runs add-site"
            )
        try:
            body = await self._body(request)
        except ClientDisconnect:
            return Response(status_code=499)
        if body is None:
            most = self._max_bytes // MIB
            return _refused(413, f"the request of site {site} is larger than {most} MiB")
        return await self._pass_on(request, body)

    async def health(self, request: Request) -> Response:
        """Whether gate and SuperLink are there; anybody may ask."""
        return await self._pass_on(request, b"")

    async def other(self, request: Request) -> Response:
        """Whatever is no business of a site."""
        return _refused(404, "this address serves sites only; use flwr on the coordinator's host")

    def _site(self, request: Request) -> str | None:
        header = request.headers.get(NODE_KEY_HEADER, "")
        try:
            return self._keys.site_of(base64.b64decode(header, validate=True))
        except (binascii.Error, ValueError):
            return None
        except FedrecError as fault:
            logger.error("%s", fault)
            return None

    async def _body(self, request: Request) -> bytes | None:
        """The whole body, or None where it is too large; no more than the limit is kept."""
        stated = request.headers.get("content-length", "0")
        if not stated.isdecimal() or int(stated) > self._max_bytes:
            return None
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_bytes:
                return None
        return bytes(body)

    async def _pass_on(self, request: Request, body: bytes) -> Response:
        asked = self._upstream.build_request(
            request.method,
            request.url.path,
            headers=_kept(request.headers.items(), _REQUEST_ONLY),
            content=body,
        )
        try:
            answer = await self._upstream.send(asked, stream=True)
        except httpx.HTTPError as error:
            logger.warning("the SuperLink does not answer: %s", error or type(error).__name__)
            return _refused(503, "the SuperLink does not answer; try again")
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers=dict(_kept(answer.headers.items(), _ANSWER_ONLY)),
            background=BackgroundTask(answer.aclose),
        )


def gate_routes(upstream: httpx.AsyncClient, keys: SiteKeys, max_bytes: int) -> list[Route]:
    """What the gate answers; arguments as of `Gate`."""
    gate = Gate(upstream, keys, max_bytes)
    return [
        Route("/v1/fleet/{call}", gate.fleet, methods=["POST"]),
        Route("/health", gate.health, methods=["GET"]),
        Route("/{path:path}", gate.other, methods=["GET", "POST", "PUT", "DELETE"]),
    ]


def gate_app(folder: ServerFolder, settings: ServerSettings) -> Starlette:
    """The gate of a server's folder, as an ASGI app."""
    trust = ssl.create_default_context(cafile=str(folder.tls / "local-ca.crt"))
    upstream = httpx.AsyncClient(
        base_url=f"https://{LOOPBACK}:{settings.superlink_port}",
        verify=trust,
        timeout=ANSWER_S,
        trust_env=False,  # a proxy of the environment is not for this machine
    )
    routes = gate_routes(upstream, SiteKeys(folder.sites), settings.max_request_mib * MIB)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with upstream:
            yield

    return Starlette(routes=routes, lifespan=lifespan)


def serve_gate(folder: ServerFolder) -> None:
    """Serves the gate until SIGTERM or SIGINT.

    Raises:
        ConfigError: the folder is no server's.
    """
    settings = folder.settings()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logger.setLevel(logging.INFO)
    logger.info("gate for %s on %s:%d", settings.host, settings.listen, settings.port)
    uvicorn.run(
        gate_app(folder, settings),
        host=settings.listen,
        port=settings.port,
        ssl_certfile=str(folder.tls / "server.crt"),
        ssl_keyfile=str(folder.tls / "server.key"),
        limit_concurrency=CONNECTIONS,
        access_log=False,
        server_header=False,
        log_level="warning",
    )


def _kept(headers: Iterable[tuple[str, str]], dropped: frozenset[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _refused(status: int, reason: str) -> Response:
    """A refusal in one line, in the form in which Flower's SuperNode shows it."""
    logger.warning("refused (%d): %s", status, reason)
    return JSONResponse({"code": REFUSAL_CODE, "detail": reason}, status_code=status)

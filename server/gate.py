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
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from common.errors import FedrecError
from common.logs import configure_log
from server.deployment_files import LOOPBACK
from server.gate_metrics import GateMetrics
from server.gate_watch import watched
from server.replays import SignedTimes
from server.server_folder import ServerFolder, ServerSettings
from server.site_keys import SiteKeys

NODE_KEY_HEADER = "flwr-public-key"
SIGNED_TIME_HEADER = "flwr-timestamp"
MIB = 1 << 20
ANSWER_S = 60.0
CONNECTIONS = 512
REFUSAL_CODE = 9000
"""Beside Flower's own error codes, which end below it."""

# The name of a call: nothing in it that a path could be led astray with.
_CALL = re.compile(r"[a-z0-9-]{1,64}")
# Of one connection, not of the message (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding"})
_REQUEST_ONLY = _HOP_BY_HOP | {"host", "upgrade", "content-length"}
_ANSWER_ONLY = _HOP_BY_HOP | {"date", "server"}

logger = logging.getLogger("fedrec-server")


class Gate:
    """Passes on what a site may ask; see the module's docstring."""

    def __init__(
        self,
        upstream: httpx.AsyncClient,
        keys: SiteKeys,
        max_bytes: int,
        metrics: GateMetrics,
        started: datetime | None = None,
    ) -> None:
        """Binds the SuperLink, the listed keys, the limit and what counts.

        Args:
            upstream: a client whose base URL is the SuperLink.
            keys: who is let in.
            max_bytes: of one request.
            metrics: counts requests.
            started: requests that were signed earlier are not taken; None: there were none.
        """
        self._upstream = upstream
        self._keys = keys
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._times = SignedTimes(started)

    async def fleet(self, request: Request) -> Response:
        """One request of a SuperNode."""
        if _CALL.fullmatch(request.path_params["call"]) is None:
            return await self.other(request)
        site = self._site(request)
        if site is None:
            self._metrics.request("unknown_key")
            return _refused(
                412, "unknown node key; send node.pub to the coordinator, who runs add-site"
            )
        try:
            body = await self._body(request)
        except ClientDisconnect:
            self._metrics.request("cut_off")
            return Response(status_code=499)
        if body is None:
            self._metrics.request("too_large")
            most = self._max_bytes // MIB
            return _refused(413, f"the request of site {site} is larger than {most} MiB", site)
        return await self._once(request, body, site)

    async def health(self, request: Request) -> Response:
        """Whether gate and SuperLink are there; anybody may ask."""
        return await self._pass_on(request, b"", None)

    async def other(self, request: Request) -> Response:
        """Whatever is no business of a site."""
        self._metrics.request("not_for_sites")
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

    async def _once(self, request: Request, body: bytes, site: str) -> Response:
        """Passes on a signed request, unless one with this very signed time has been answered."""
        signed = request.headers.get(SIGNED_TIME_HEADER, "")
        if self._times.may_be_known(signed):
            self._metrics.request("just_started")
            return _refused(
                503,
                f"the request of site {site} may have been made before this gate was started; "
                "the node tries again",
                site,
            )
        if signed and not self._times.take(site, signed):
            self._metrics.request("replayed")
            # 503: should two honest requests bear the same microsecond, one is tried again.
            return _refused(
                503, f"the request of site {site} was made before; a node signs each one anew", site
            )
        answer = await self._pass_on(request, body, site)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            self._times.give_back(site, signed)
        return answer

    async def _pass_on(self, request: Request, body: bytes, site: str | None) -> Response:
        # Headers as the bytes that came: what is no text must not be read as one.
        headers = [
            (name, value)
            for name, value in request.headers.raw
            if name.decode("latin-1").lower() not in _REQUEST_ONLY
        ]
        try:
            asked = self._upstream.build_request(
                request.method, request.url.path, headers=headers, content=body
            )
            answer = await self._upstream.send(asked, stream=True)
        except httpx.HTTPError as error:
            logger.warning("the SuperLink does not answer: %s", error or type(error).__name__)
            self._metrics.request("superlink_down")
            return _refused(503, "the SuperLink does not answer; try again", site)
        self._metrics.passed(site, len(body))
        return StreamingResponse(
            self._counted(answer.aiter_raw()),
            status_code=answer.status_code,
            headers={
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in _ANSWER_ONLY
            },
            background=BackgroundTask(answer.aclose),
        )

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._metrics.sent(len(chunk))
            yield chunk


def gate_routes(
    upstream: httpx.AsyncClient,
    keys: SiteKeys,
    max_bytes: int,
    metrics: GateMetrics | None = None,
    started: datetime | None = None,
) -> list[Route]:
    """What the gate answers; arguments as of `Gate`."""
    gate = Gate(upstream, keys, max_bytes, metrics or GateMetrics(), started)
    return [
        Route("/v1/fleet/{call}", gate.fleet, methods=["POST"]),
        Route("/health", gate.health, methods=["GET"]),
        Route("/{path:path}", gate.other, methods=["GET", "POST", "PUT", "DELETE"]),
    ]


def gate_app(
    folder: ServerFolder, settings: ServerSettings, metrics: GateMetrics | None = None
) -> Starlette:
    """The gate of a server's folder, as an ASGI app."""
    trust = ssl.create_default_context(cafile=str(folder.tls / "local-ca.crt"))
    upstream = httpx.AsyncClient(
        base_url=f"https://{LOOPBACK}:{settings.superlink_port}",
        verify=trust,
        timeout=ANSWER_S,
        trust_env=False,  # a proxy of the environment is not for this machine
    )
    most = settings.max_request_mib * MIB
    routes = gate_routes(upstream, SiteKeys(folder.sites), most, metrics, datetime.now(UTC))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with upstream:
            yield

    return Starlette(routes=routes, lifespan=lifespan)


def serve_gate(folder: ServerFolder, observe_listen: str = LOOPBACK) -> None:
    """Serves the gate until SIGTERM or SIGINT.

    Args:
        folder: the server's.
        observe_listen: address of metrics and health; this machine's own, unless a container
            around the gate is what keeps others out.

    Raises:
        ConfigError: the folder is no server's, or a port cannot be used.
    """
    settings, metrics = folder.settings(), GateMetrics()
    configure_log(logger.name)
    logger.info("gate for %s on %s:%d", settings.host, settings.listen, settings.port)
    with watched(folder, settings, metrics, observe_listen):
        uvicorn.run(
            gate_app(folder, settings, metrics),
            host=settings.listen,
            port=settings.port,
            ssl_certfile=str(folder.tls / "server.crt"),
            ssl_keyfile=str(folder.tls / "server.key"),
            limit_concurrency=CONNECTIONS,
            ws="none",  # nobody asks for a websocket here
            access_log=False,
            server_header=False,
            log_config=None,
            log_level="warning",
        )


def _refused(status: int, reason: str, site: str | None = None) -> Response:
    """A refusal in one line, in the form in which Flower's SuperNode shows it."""
    about = {"http_status": status, "reason": reason} | ({"site": site} if site else {})
    logger.warning("refused (%d): %s", status, reason, extra=about)
    return JSONResponse({"code": REFUSAL_CODE, "detail": reason}, status_code=status)

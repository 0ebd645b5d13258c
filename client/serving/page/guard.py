"""Who may ask: the browser that opened the one-time link, and no page of another origin.

Other users of the machine can connect to its loopback, and so can any web site through the
operator's browser. Therefore: a link that works once and is told in the terminal alone; a session
key that the page keeps and shows itself (no cookie, which browsers send to every port and for
every site); and no answer for a name that is not this machine's own (DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import threading
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 64 * 1024
OPEN_PATHS = frozenset({"/", "/page.css", "/page.js", "/favicon.ico", "/api/login"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Logins:
    """One-time codes and the sessions that they opened; thread-safe."""

    def __init__(self) -> None:
        """With one code, which nobody has used."""
        self._lock = threading.Lock()
        self._code = secrets.token_urlsafe(32)
        self._sessions: list[str] = []

    @property
    def code(self) -> str:
        """The one that works now."""
        return self._code

    def open(self, code: str) -> str | None:
        """A session for a code, which works no more; None for any other."""
        with self._lock:
            if not hmac.compare_digest(code.encode(errors="replace"), self._code.encode()):
                return None
            self._code = secrets.token_urlsafe(32)
            self._sessions.append(secrets.token_urlsafe(32))
            return self._sessions[-1]

    def knows(self, session: str) -> bool:
        """Whether a session was opened here."""
        shown = session.encode()
        return any([hmac.compare_digest(shown, each.encode()) for each in self._sessions])


class Guarded:
    """Lets through what may be answered, and sets the headers that hold the page together."""

    def __init__(self, app: ASGIApp, logins: Logins) -> None:
        """Stands before `app`."""
        self._app, self._logins = app, logins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(Request(scope))
        if refusal is not None:
            await refusal(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        if not is_loopback(f"//{headers.get('host', '')}"):
            return refused(421, "this page answers by the name of its own machine alone")
        origin = headers.get("origin")
        is_own = origin is None or origin == f"http://{headers['host']}"
        if not is_own or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return refused(403, "another site's page may not ask")
        if request.method == "POST" and not 0 <= _length(headers.get("content-length")) <= MAX_BODY:
            return refused(413, "the request is too long")
        if request.url.path in OPEN_PATHS:
            return None
        scheme, _, session = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not self._logins.knows(session):
            return refused(401, "open the page by the link in the terminal")
        return None


def refused(status: int, line: str) -> JSONResponse:
    """An answer that is a refusal."""
    return JSONResponse({"error": line}, status)


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is this machine's own."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _length(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else -1

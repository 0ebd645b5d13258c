"""The page and its answers behind HTTP, on Starlette; every fault is a status and one line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.resources import files
from json import loads
from typing import Any

import pydantic
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from client.serving.page.answers import AskedList, AskedReasons, AskedWords, PageAnswers
from client.serving.page.guard import MAX_BODY, Guarded, Logins, refused
from common.errors import ConfigError, RequestFault

STATIC = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_STATUS = {"invalid": 400, "unknown": 404, "conflict": 409, "busy": 429, "late": 408}

logger = logging.getLogger("fedrec-site")


class Endpoints:
    """What the paths below ``/api/`` do."""

    def __init__(self, answers: PageAnswers, logins: Logins, opened: Callable[[], None]) -> None:
        """As `page_app`."""
        self._answers, self._logins, self._opened = answers, logins, opened

    async def login(self, request: Request) -> Response:
        """A session for the code of a link."""
        asked = await _json(request)
        code = asked.get("code") if isinstance(asked, dict) else None
        session = self._logins.open(code) if isinstance(code, str) else None
        if session is None:
            return refused(403, "This link was used before. The terminal has a new one.")
        self._opened()
        return JSONResponse({"session": session})

    async def site(self, _: Request) -> Response:
        """What is served."""
        return JSONResponse(self._answers.site())

    async def titles(self, request: Request) -> Response:
        """Titles that have what was typed in them."""
        typed = request.query_params.get("q", "")[:200]
        return JSONResponse(await run_in_threadpool(self._answers.titles, typed))

    async def lists(self, request: Request) -> Response:
        """The greedy list, and the one beside it."""
        asked = AskedList.model_validate(await _json(request))
        return JSONResponse(await run_in_threadpool(self._answers.lists, asked))

    async def reasons(self, request: Request) -> Response:
        """Reasons for items."""
        asked = AskedReasons.model_validate(await _json(request))
        return JSONResponse(await run_in_threadpool(self._answers.reasons, asked))

    async def words(self, request: Request) -> Response:
        """The words of one item's text that count most."""
        asked = AskedWords.model_validate(await _json(request))
        return JSONResponse({"told": await run_in_threadpool(self._answers.words, asked)})


def page_app(
    answers: PageAnswers, logins: Logins, opened: Callable[[], None] = lambda: None
) -> Starlette:
    """The application.

    Args:
        answers: what it says.
        logins: who may ask.
        opened: told whenever a link was used, and another one works.
    """
    api = Endpoints(answers, logins, opened)
    return Starlette(
        routes=[
            Route("/", _static("page.html")),
            Route("/page.css", _static("page.css")),
            Route("/page.js", _static("page.js")),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
            Route("/api/login", api.login, methods=["POST"]),
            Route("/api/site", api.site),
            Route("/api/titles", api.titles),
            Route("/api/lists", api.lists, methods=["POST"]),
            Route("/api/reasons", api.reasons, methods=["POST"]),
            Route("/api/words", api.words, methods=["POST"]),
        ],
        middleware=[Middleware(Guarded, logins=logins)],
        exception_handlers={
            RequestFault: _of_request,
            ConfigError: _of_setting,
            pydantic.ValidationError: _of_form,
            HTTPException: _of_http,
            Exception: _of_ours,
        },
    )


def _static(name: str) -> Callable[[Request], Response]:
    content = (files("client.serving.page") / "static" / name).read_bytes()

    def answer(_: Request) -> Response:
        return Response(content, media_type=f"{STATIC[name]}; charset=utf-8")

    return answer


async def _json(request: Request) -> Any:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "the request must be JSON")
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                raise HTTPException(413, "the request is too long")
        return loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the request is no JSON") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the request was cut off") from error


def _of_request(_: Request, fault: Exception) -> Response:
    status = _STATUS[fault.reason] if isinstance(fault, RequestFault) else 400
    return refused(status, str(fault))


def _of_setting(_: Request, fault: Exception) -> Response:
    line = fault.faults[0] if isinstance(fault, ConfigError) else str(fault)
    return refused(400, line)


def _of_form(_: Request, fault: Exception) -> Response:
    if not isinstance(fault, pydantic.ValidationError):
        raise fault
    first = fault.errors()[0]
    return refused(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _of_http(_: Request, fault: Exception) -> Response:
    return refused(fault.status_code if isinstance(fault, HTTPException) else 400, _detail(fault))


def _detail(fault: Exception) -> str:
    return str(fault.detail) if isinstance(fault, HTTPException) else str(fault)


def _of_ours(_: Request, fault: Exception) -> Response:
    logger.error("the page failed", exc_info=fault)
    return refused(500, "The page failed; its log in the terminal says why.")

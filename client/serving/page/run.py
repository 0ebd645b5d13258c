"""``fedrec-site page``: serves the page on this machine until it is ended."""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import closing
from pathlib import Path
from types import FrameType

import torch
import uvicorn

from client.serving.feedback import FEEDBACK_FILE, SERVING_FOLDER, FeedbackStore
from client.serving.page.answers import PageAnswers
from client.serving.page.app import page_app
from client.serving.page.guard import Logins
from client.serving.recommending import SiteRecommender
from client.serving.served import WhatToServe
from client.serving.swapping import Swapper, stamp
from common.errors import ConfigError
from common.logs import configure_log

LOOPBACK = "127.0.0.1"

logger = logging.getLogger("fedrec-site")


def serve_page(what: WhatToServe, port: int) -> None:
    """Serves the page until SIGINT or SIGTERM.

    Args:
        what: the site's folder, and what beside it; with facts.
        port: on this machine; 0: any.

    Raises:
        ConfigError: the port is taken.
        FedrecError: the site cannot be served.
    """
    configure_log("client", logger.name)
    torch.set_num_threads(1)
    seen = stamp(what.site)
    with closing(_bound(port)) as listener:
        recommender = SiteRecommender(what.load(), feedback_of(what.site))
        logins, address = Logins(), f"http://{LOOPBACK}:{listener.getsockname()[1]}/"

        def tell_link() -> None:
            print(f"open {address}#{logins.code}\n  (works once, in one browser)", flush=True)

        app = page_app(PageAnswers(recommender), logins, tell_link)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                ws="none",
                limit_concurrency=64,
            )
        )
        signal.signal(signal.SIGTERM, _end)
        with Swapper(what, recommender, seen):
            tell_link()
            server.run(sockets=[listener])


def feedback_of(site: Path) -> FeedbackStore | None:
    """What users did, if anything was recorded; the page only reads it."""
    folder = site / SERVING_FOLDER
    return FeedbackStore(folder) if (folder / FEEDBACK_FILE).exists() else None


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno or 0)
        raise ConfigError([f"--port {port} cannot be used ({reason}); choose another"]) from error
    return listener


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)

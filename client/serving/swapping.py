"""Follows the site's current adapter and tables: what is new is made aside, then switched to."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from client.installed_adapter import ADAPTERS_FOLDER, CURRENT_FILE
from client.serving.metrics import ServingMetrics
from client.serving.recommending import SiteRecommender
from client.serving.served import WhatToServe
from common.errors import FedrecError
from common.site_folder import MANIFEST_FILE

POLL_S = 1.0
Stamp = tuple[tuple[int, int] | None, ...]

logger = logging.getLogger("fedrec-site")


class Swapper:
    """Watches the two files whose replacement makes something else current."""

    def __init__(
        self,
        what: WhatToServe,
        recommender: SiteRecommender,
        seen: Stamp,
        metrics: ServingMetrics | None = None,
    ) -> None:
        """Compares with `seen`, the stamp from before what is served now was loaded."""
        self._metrics = metrics
        self._what = what
        self._recommender = recommender
        self._seen = seen
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="swapper", daemon=True)

    def __enter__(self) -> Swapper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()

    def look(self) -> bool:
        """Switches if something else is current; returns whether it did.

        What cannot be loaded is said once, and what was served goes on being served.
        """
        now = stamp(self._what.site)
        if now == self._seen:
            return False
        self._seen = now
        try:
            served = self._what.load()
        except FedrecError as error:
            adapter = self._recommender.served.adapter
            self._count(is_done=False)
            logger.error("adapter %s goes on being served: %s", adapter, error)
            return False
        self._recommender.swap(served)
        self._count(is_done=True)
        logger.info("now serving adapter %s (run %s)", served.adapter, served.manifest.run)
        return True

    def _count(self, *, is_done: bool) -> None:
        if self._metrics is not None:
            self._metrics.swapped(is_done=is_done)

    def _watch(self) -> None:
        while not self._end.wait(POLL_S):
            try:
                self.look()
            except Exception:  # the watch must outlive whatever one look meets
                logger.exception("cannot look for another adapter")


def stamp(site: Path) -> Stamp:
    """Tells whether the current adapter or the site's tables were replaced."""
    return tuple(
        _of_file(path) for path in (site / ADAPTERS_FOLDER / CURRENT_FILE, site / MANIFEST_FILE)
    )


def _of_file(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns

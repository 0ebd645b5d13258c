"""Progress as lines of Flower's own log, for ``flwr run --stream`` and ``flwr log``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import cast

logger = logging.getLogger("flwr.fedrec")
"""A child of Flower's logger, so that its handlers and its log stream carry the lines."""


class LogListener:
    """One line per round."""

    def __init__(self) -> None:
        self._total_rounds = 0

    def run_started(self, total_rounds: int) -> None:
        """Logs the number of rounds."""
        self._total_rounds = total_rounds
        logger.info("run of %d rounds starts", total_rounds, extra={"rounds": total_rounds})

    def round_started(self, server_round: int) -> None:
        """Logs nothing: the round has its line when it is over."""

    def site_finished(self, server_round: int, site: str) -> None:
        """Logs nothing: the round has its line when it is over."""

    def round_finished(self, record: Mapping[str, object]) -> None:
        """Logs the round's line, and one line per site that was left out."""
        sites = cast(Sequence[Mapping[str, object]], record["sites"])
        good = sum(site["status"] == "ok" for site in sites)
        about = {"run": record["run"], "server_round": record["server_round"]}
        counts = {"sites_ok": good, "sites_asked": len(sites), "seconds": record["seconds"]}
        logger.info(
            "round %s of %d: %d of %d sites, %s s",
            record["server_round"],
            self._total_rounds,
            good,
            len(sites),
            record["seconds"],
            extra={**about, "rounds": self._total_rounds, **counts},
        )
        for site in sites:
            if site["status"] != "ok":
                told = {name: site[name] for name in ("site", "status", "reason")}
                logger.warning("%s %s: %s", *told.values(), extra={**about, **told})

    def message(self, text: str) -> None:
        """Logs `text`."""
        logger.info("%s", text)

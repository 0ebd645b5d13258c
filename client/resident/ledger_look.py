"""Looks at a site's ledger from beside the agent: is it usable, and what was spent?"""

from __future__ import annotations

import logging

from client.ledger import Ledger
from client.ledger_file import LedgerFile
from client.ledger_guard import check_anchored
from client.ledger_log import history
from client.policy import SitePolicy
from client.resident.site_metrics import SiteMetrics
from common.accounting import epsilon
from common.errors import FedrecError, LedgerError
from common.privacy_events import PrivacyEvent

logger = logging.getLogger("fedrec-site")


class LedgerLook:
    """Looks again and again, with a connection of its own; see the module's docstring."""

    def __init__(self, ledger: Ledger, policy: SitePolicy) -> None:
        self._path, self._anchor, self._policy = ledger.path, ledger.anchor, policy
        self._seen: tuple[PrivacyEvent, ...] | None = None
        self._told = ""

    def tell(self, metrics: SiteMetrics) -> None:
        """Puts what it finds into `metrics`."""
        try:
            events = self._events()
        except FedrecError as fault:
            if str(fault) != self._told:  # once, and not at every look
                logger.error("%s: %s", type(fault).__name__, fault)
            self._told = str(fault)
            metrics.ledger(is_ok=False, is_serving=True)
            return
        if events != self._seen:  # ε takes a while to compute
            metrics.spent(epsilon(events, self._policy.max_delta), self._policy.max_epsilon)
            self._seen = events
        self._told = ""
        metrics.ledger(is_ok=True, is_serving=True)

    def _events(self) -> tuple[PrivacyEvent, ...]:
        if not self._path.is_file():  # or SQLite would make one
            raise LedgerError(f"ledger {self._path} is gone; restore it from a backup")
        anchored = self._anchor.last()
        with LedgerFile(self._path).connection() as connection:
            check_anchored(self._path, connection, self._anchor, anchored)
            return history(connection)[0]

"""What an agent tells of itself, for Prometheus: public figures only.

No number here depends on a user's data beyond what the site released or declares: no exact
count, no loss, and no duration of a training, which follows the batch that was drawn. The last
answer is told to the minute, and the file is written at fixed times, not when something ends.
"""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    write_to_textfile,
)

from client.policy import SitePolicy

MESSAGES = frozenset({"enrol", "popularity", "cooccurrence", "sum", "train", "evaluate"})
"""What a site answers; whatever else a relay sends is ``other``."""

SELF_TEST_STATES = ("pending", "passed", "not_needed")
_READABLE = 0o644  # the folder says who gets to it


class SiteMetrics:
    """The figures of one agent; `registry` has them all."""

    def __init__(self, site: str) -> None:
        """Starts as an agent that does not serve yet."""
        disable_created_metrics()
        self.registry, self._site = CollectorRegistry(), site
        self._serving = self._gauge("serving", "Whether the agent answers: proven, ledger usable.")
        self._ledger_ok = self._gauge("ledger_ok", "Whether ledger and anchor agree.")
        self._beat = self._gauge(
            "heartbeat_timestamp_seconds", "When this was written, in unix seconds."
        )
        self._self_test = self._gauge(
            "self_test", "1 for the state of the self-test at the start, 0 for the others.", "state"
        )
        self._spent = self._gauge("epsilon_spent", "Total ε of the ledger at the policy's δ.")
        self._limit = self._gauge("epsilon_limit", "max_epsilon of the policy.")
        self._left = self._gauge("epsilon_left", "What is left of it.")
        self._delta = self._gauge("delta", "δ at which ε is counted.")
        self._units = self._gauge("declared_units", "Number of units that the site declares.")
        self._refreshed = self._gauge(
            "source_refreshed_timestamp_seconds", "When the source was read last, in unix seconds."
        )
        self._last = self._gauge(
            "last_answer_timestamp_seconds", "Minute of the last answer, in unix seconds."
        )
        self._answers = Counter(
            "fedrec_site_answers",
            "Messages answered, by type and outcome.",
            ["site", "message", "outcome"],
            registry=self.registry,
        )
        self._refusals = Counter(
            "fedrec_site_refusals",
            "Messages refused, by the class of the reason.",
            ["site", "code"],
            registry=self.registry,
        )
        for gauge in (self._serving, self._ledger_ok):
            gauge.labels(site).set(0)
        self.tested("pending")

    def declared(self, units: int, policy: SitePolicy, refreshed: float) -> None:
        """What stands in the site's folder, read at the start."""
        self._units.labels(self._site).set(units)
        self._limit.labels(self._site).set(policy.max_epsilon)
        self._delta.labels(self._site).set(policy.max_delta)
        self._refreshed.labels(self._site).set(int(refreshed))

    def tested(self, state: str) -> None:
        """How the self-test stands; one of `SELF_TEST_STATES`."""
        for each in SELF_TEST_STATES:
            self._self_test.labels(self._site, each).set(each == state)

    def ledger(self, *, is_ok: bool, is_serving: bool) -> None:
        """How the ledger is, and with it whether the agent serves."""
        self._ledger_ok.labels(self._site).set(is_ok)
        self._serving.labels(self._site).set(is_ok and is_serving)

    def spent(self, epsilon: float, limit: float) -> None:
        """The ledger's total."""
        self._spent.labels(self._site).set(epsilon)
        self._left.labels(self._site).set(max(limit - epsilon, 0.0))

    def answered(self, message_type: str, code: str) -> None:
        """Counts an answer; `code` is that of a refusal, else empty."""
        message = message_type.removeprefix("query.")
        message = message if message in MESSAGES else "other"
        outcome = "refused" if code else "answered"
        self._answers.labels(self._site, message, outcome).inc()
        if code:
            self._refusals.labels(self._site, code).inc()
        self._last.labels(self._site).set(time.time() // 60 * 60)

    def write(self, path: Path) -> None:
        """Replaces the file at `path` by what holds now.

        Raises:
            OSError: the file system refuses.
        """
        self._beat.labels(self._site).set(int(time.time()))
        write_to_textfile(str(path), self.registry)
        path.chmod(_READABLE)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"fedrec_site_{name}", text, ["site", *labels], registry=self.registry)

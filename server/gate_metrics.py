"""What the gate tells Prometheus: of its own requests, of the SuperLink, of the current run.

Nothing here depends on a user: requests, public names of sites, and what the run's folder
has of each round, in which ε is what sites stated themselves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, get_args

from cryptography import x509
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from common.errors import FedrecError
from server.run_status import RUN_STATES, RunStatus, SiteLine, current_run, run_status
from server.server_folder import ServerFolder

Outcome = Literal[
    "passed",
    "unknown_key",
    "too_large",
    "replayed",
    "just_started",
    "superlink_down",
    "not_for_sites",
    "cut_off",
]
SITE_STATUSES = ("ok", "refused", "error", "non_finite")

logger = logging.getLogger("fedrec-server")


class GateMetrics:
    """Counts what the gate does; `registry` has it all."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fedrec_gate_requests",
            "Requests, by what became of them.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in get_args(Outcome):
            self._requests.labels(outcome)  # a rate needs a zero to start from
        self._received = Counter(
            "fedrec_gate_received_bytes", "Bytes of requests passed on.", registry=self.registry
        )
        self._sent = Counter(
            "fedrec_gate_sent_bytes", "Bytes of answers passed on.", registry=self.registry
        )
        self._last = Gauge(
            "fedrec_gate_site_last_request_timestamp_seconds",
            "When a request with the site's key came last, in unix seconds.",
            ["site"],
            registry=self.registry,
        )
        self.superlink_up = Gauge(
            "fedrec_superlink_up", "Whether the SuperLink answers the gate.", registry=self.registry
        )

    def request(self, outcome: Outcome) -> None:
        """Counts a request."""
        self._requests.labels(outcome).inc()

    def passed(self, site: str | None, size: int) -> None:
        """Counts a request that is passed on, of `size` bytes; `site` is None for health."""
        self.request("passed")
        self._received.inc(size)
        if site is not None:
            self._last.labels(site).set_to_current_time()

    def sent(self, size: int) -> None:
        """Counts bytes of an answer."""
        self._sent.inc(size)


class FolderCollector(Collector):
    """The current run and the certificate, read from the server's folder at every scrape."""

    def __init__(self, folder: ServerFolder) -> None:
        self._folder = folder

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the folder."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What is there now; a file that cannot be read is told, and left out."""
        try:
            yield from _certificate(self._folder)
            run = current_run(self._folder.runs)
            if run is not None:
                yield from run_metrics(run_status(run))
        except (FedrecError, OSError, ValueError) as fault:
            logger.warning("metrics: %s", fault)


def run_metrics(run: RunStatus) -> Iterator[Metric]:
    """Everything about one run."""
    yield _gauge(
        "fedrec_run_state",
        "1 for the state that the run is in, 0 for the others.",
        {(run.run, state): float(state == run.state) for state in RUN_STATES},
        ("run", "state"),
    )
    numbers: dict[str, tuple[str, float]] = {
        "fedrec_run_round": ("The last round on record.", run.server_round),
        "fedrec_run_rounds": ("Rounds that are planned.", run.rounds),
    }
    if run.last_ended is not None:
        ended = datetime.fromisoformat(run.last_ended).timestamp()
        numbers |= {
            "fedrec_run_last_round_timestamp_seconds": (
                "When the last round ended, in unix seconds.",
                ended,
            ),
            "fedrec_run_seconds_since_last_round": (
                "Seconds since the last round ended.",
                max(time.time() - ended, 0.0),
            ),
        }
    for name, (text, value) in numbers.items():
        yield _gauge(name, text, {(run.run,): float(value)}, ("run",))
    yield _gauge(
        "fedrec_run_sites",
        "Sites by what they did in the last round on record.",
        {(run.run, s): float(run.statuses.get(s, 0)) for s in SITE_STATUSES},
        ("run", "status"),
    )
    yield from _site_metrics(run.run, run.sites)


def _site_metrics(run: str, sites: tuple[SiteLine, ...]) -> Iterator[Metric]:
    labels = ("run", "site")
    for name, text, field in (
        ("spent", "Total ε of the site's ledger, as it stated last.", "epsilon_spent"),
        ("left", "ε left of the site's own limit, as it declared last.", "epsilon_left"),
    ):
        found = {(run, line.site): getattr(line, field) for line in sites}
        known = {key: float(value) for key, value in found.items() if value is not None}
        yield _gauge(f"fedrec_run_site_epsilon_{name}", text, known, labels)
    for name, text, field in (
        ("received_bytes", "Bytes of releases received from the site.", "bytes_up"),
        ("refusals", "How often the site said no.", "refusals"),
        ("errors", "How often its answer was missing or of no use.", "errors"),
    ):
        family = CounterMetricFamily(f"fedrec_run_site_{name}", text, labels=labels)
        for line in sites:
            family.add_metric((run, line.site), getattr(line, field))
        yield family


def _certificate(folder: ServerFolder) -> Iterator[Metric]:
    content = (folder.tls / "server.crt").read_bytes()
    expires = x509.load_pem_x509_certificates(content)[0].not_valid_after_utc
    yield _gauge(
        "fedrec_gate_certificate_expiry_timestamp_seconds",
        "When the certificate that sites see expires, in unix seconds.",
        {(): expires.timestamp()},
        (),
    )


def _gauge(name: str, text: str, values: Mapping[Any, float], labels: tuple[str, ...]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family

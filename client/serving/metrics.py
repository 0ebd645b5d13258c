"""What the service tells Prometheus: of its requests, its queue, its adapter, its feedback.

Labels are methods, statuses, and public names (site, adapter, run, policy); no user, no item and
no title is ever among them. The counts themselves are exact, and follow what the site's users
do: they are for the site's own operator, and no release.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, ParamSpec, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from client.serving.feedback import FeedbackStore
from client.serving.recommending import SiteRecommender

METHODS = ("Recommend", "Explain", "Feedback", "ModelInfo")
OTHER = "other"
_FAST_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_P = ParamSpec("_P")
_T = TypeVar("_T")


class ServingMetrics:
    """Counts what one service does; `registry` has it all."""

    def __init__(self) -> None:
        """Starts at zero."""
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fedrec_serving_requests",
            "Requests, by method and gRPC status; those over the queue's limit are not among them.",
            ["method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "fedrec_serving_seconds",
            "Seconds that answering took, without the wait.",
            ["method"],
            buckets=_FAST_S,
            registry=self.registry,
        )
        self._waits = Histogram(
            "fedrec_serving_wait_seconds",
            "Seconds that requests, health checks among them, waited for a worker.",
            buckets=_FAST_S,
            registry=self.registry,
        )
        self._waiting = Gauge(
            "fedrec_serving_waiting", "Requests that wait for a worker.", registry=self.registry
        )
        self._limit = Gauge(
            "fedrec_serving_waiting_limit",
            "Requests that may wait; more are refused.",
            registry=self.registry,
        )
        self._swaps = Counter(
            "fedrec_serving_swaps",
            "Adapters or tables that became current: `done`, or `failed` to load.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("done", "failed"):
            self._swaps.labels(outcome)  # a rate needs a zero to start from
        for method in METHODS:
            self._requests.labels(method, "OK")
        self._requests.labels(OTHER, "UNAUTHENTICATED")

    def answered(self, method: str, status: str, seconds: float) -> None:
        """Counts an answer, of `status` by gRPC's name, that took `seconds`."""
        self._requests.labels(method, status).inc()
        self._seconds.labels(method).observe(seconds)

    def turned_away(self, path: str) -> None:
        """Counts a request without the token, for the method at `path`."""
        method = path.rpartition("/")[2]
        known = method if method in METHODS else OTHER  # a stranger's text is no label
        self._requests.labels(known, "UNAUTHENTICATED").inc()

    def swapped(self, *, is_done: bool) -> None:
        """Counts a switch to something else, or one that failed."""
        self._swaps.labels("done" if is_done else "failed").inc()

    def limited(self, waiting: int) -> None:
        """Says how many may wait."""
        self._limit.set(waiting)

    def arrived(self) -> None:
        """One more waits."""
        self._waiting.inc()

    def began(self, seconds: float) -> None:
        """One has waited for `seconds`, and its turn has come."""
        self._waiting.dec()
        self._waits.observe(seconds)


class WatchedPool(ThreadPoolExecutor):
    """Workers whose queue is measured."""

    def __init__(self, workers: int, metrics: ServingMetrics) -> None:
        """Of so many workers."""
        super().__init__(workers, thread_name_prefix="serving")
        self._metrics = metrics

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """As its superclass's."""
        arrived = time.perf_counter()

        def work(*args: Any, **kwargs: Any) -> _T:
            self._metrics.began(time.perf_counter() - arrived)
            return fn(*args, **kwargs)

        self._metrics.arrived()
        try:
            return super().submit(work, *args, **kwargs)
        except RuntimeError:  # it has ended
            self._metrics.began(0.0)
            raise


class ServedCollector(Collector):
    """What is served now, and the rows of feedback, looked up at every scrape."""

    def __init__(self, recommender: SiteRecommender, feedback: FeedbackStore) -> None:
        self._recommender, self._feedback = recommender, feedback

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering looks nothing up."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """`served_metrics` of now."""
        served = self._recommender.served
        known = len(served.items.catalogue)
        yield from served_metrics(
            ServedFigures(
                (served.site, served.adapter, served.manifest.run, self._recommender.policy),
                {"catalogue": known, "new": len(served.items) - known},
                served.loaded_at,
                self._feedback.count(),
            )
        )


class ServedFigures(NamedTuple):
    """What is served at one moment.

    Attributes:
        names: of site, adapter, run and policy.
        items: numbers by kind.
        loaded_at: unix seconds.
        feedback_rows: kept so far.
    """

    names: tuple[str, str, str, str]
    items: Mapping[str, int]
    loaded_at: int
    feedback_rows: int


def served_metrics(found: ServedFigures) -> Iterator[Metric]:
    """The figures for Prometheus."""
    labels = ["site", "adapter", "run", "policy"]
    info = GaugeMetricFamily("fedrec_serving_info", "1; the labels say what.", labels=labels)
    info.add_metric(found.names, 1.0)
    yield info
    items = GaugeMetricFamily("fedrec_serving_items", "Items that are offered.", labels=["kind"])
    for kind, number in found.items.items():
        items.add_metric([kind], number)
    yield items
    yield GaugeMetricFamily(
        "fedrec_serving_index_loaded_timestamp_seconds",
        "When the index of items and the site's tables were read, in unix seconds.",
        value=found.loaded_at,
    )
    yield GaugeMetricFamily(
        "fedrec_serving_feedback_rows", "Rows of feedback kept.", value=found.feedback_rows
    )

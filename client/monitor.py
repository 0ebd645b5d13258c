"""`fedrec-site monitor`: serves an agent's file of figures on this machine, and its health.

It runs as a user of its own, sees no site's folder, and may not ask the agent anything. What
it shows is what the agent wrote, and whether that is fresh.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from common.errors import ConfigError
from common.loopback import HealthStates, health_served, metrics_served

LOOPBACK = "127.0.0.1"
SERVICES = ("agent",)
EVERY_S = 2.0
STALE_S = 45.0
"""An agent writes every 10 s."""
MAX_BYTES = 1 << 20


class Figures(Collector):
    """The figures in one agent's file, as long as they are fresh."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def describe(self) -> Iterable[Metric]:
        """Nothing: the file may not be there yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """``fedrec_site_up``, and what the agent wrote."""
        found = self.read()
        up = GaugeMetricFamily(
            "fedrec_site_up", "Whether the agent runs: its figures are fresh.", labels=["site"]
        )
        up.add_metric([self._path.stem], float(bool(found)))
        yield up
        yield from found

    def read(self) -> list[Metric]:
        """The figures; none where there is no agent, or it stopped writing."""
        try:
            with self._path.open("rb") as file:
                text = file.read(MAX_BYTES).decode("utf-8")
            families = list(text_string_to_metric_families(text))
        except (OSError, ValueError):
            return []
        found = [family for family in families if family.name.startswith("fedrec_site_")]
        written = _value(found, "fedrec_site_heartbeat_timestamp_seconds")
        return found if time.time() - written < STALE_S else []

    def is_well(self) -> bool:
        """Whether the agent serves: proven, and its ledger usable."""
        return _value(self.read(), "fedrec_site_serving") == 1.0


def monitor_site(
    path: Path,
    metrics_port: int,
    health_port: int,
    *,
    every_s: float = EVERY_S,
    has_ended: threading.Event | None = None,
) -> None:
    """Serves the figures in `path` until the process is ended, or `has_ended`.

    Args:
        path: the agent's file.
        metrics_port: for Prometheus; 0: none.
        health_port: for ``grpc.health.v1.Health``; 0: none.
        every_s: seconds between two looks at the file.
        has_ended: ends it.

    Raises:
        ConfigError: a port cannot be used, or the two are one.
    """
    if metrics_port == health_port and metrics_port:
        raise ConfigError(
            [f"--metrics-port and --health-port are both {metrics_port}; give two, or 0 for one"]
        )
    figures, registry, states = Figures(path), CollectorRegistry(), HealthStates(SERVICES)
    registry.register(figures)
    with (
        metrics_served(registry, LOOPBACK, metrics_port),
        health_served(states, LOOPBACK, health_port),
    ):
        is_over = has_ended or threading.Event()
        while True:
            is_well = figures.is_well()
            states.set({"": is_well, "agent": is_well})
            if is_over.wait(every_s):
                return


def _value(families: Iterable[Metric], name: str) -> float:
    for family in families:
        if family.name == name and family.samples:
            return family.samples[0].value
    return 0.0

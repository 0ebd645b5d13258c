"""What the gate shows on this machine's own ports while it serves: metrics and health."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from common.errors import FedrecError
from common.loopback import HealthStates, health_served, metrics_served
from server.deployment_files import LOOPBACK
from server.gate_metrics import FolderCollector, GateMetrics
from server.probing import superlink_is_up
from server.run_lock import is_at_work
from server.run_status import current_run
from server.server_folder import ServerFolder, ServerSettings

EVERY_S = 5.0
SERVICES = ("gate", "superlink", "run")
"""Of ``grpc.health.v1.Health``; the empty name is gate and SuperLink together."""

logger = logging.getLogger("fedrec-server")


@contextmanager
def watched(
    folder: ServerFolder,
    settings: ServerSettings,
    metrics: GateMetrics,
    address: str = LOOPBACK,
    *,
    every_s: float = EVERY_S,
) -> Iterator[None]:
    """Serves `metrics_port` and `health_port` while the block runs, and looks after the rest.

    Raises:
        ConfigError: a port cannot be used.
    """
    states, has_ended = HealthStates(SERVICES), threading.Event()
    metrics.registry.register(FolderCollector(folder))

    def look() -> None:
        superlink = superlink_is_up(folder, settings)
        metrics.superlink_up.set(superlink)
        well = {"gate": True, "superlink": superlink, "run": _run_goes_on(folder)}
        states.set({**well, "": superlink})

    watcher = threading.Thread(
        target=_again_and_again, args=(look, has_ended, every_s), name="watch", daemon=True
    )
    with (
        metrics_served(metrics.registry, address, settings.metrics_port),
        health_served(states, address, settings.health_port),
    ):
        watcher.start()
        try:
            yield
        finally:
            has_ended.set()
            watcher.join()


def _again_and_again(look: Callable[[], None], has_ended: threading.Event, every_s: float) -> None:
    while True:
        look()
        if has_ended.wait(every_s):
            return


def _run_goes_on(folder: ServerFolder) -> bool:
    try:
        run = current_run(folder.runs)
        return run is not None and is_at_work(run)
    except (FedrecError, OSError) as fault:
        logger.warning("health: %s", fault)
        return False

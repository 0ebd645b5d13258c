"""``fedrec-site monitor``: metrics and health of a site's agent, on this machine."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

Port = Annotated[int, typer.Option(min=0, max=65535, help="On this machine; 0: none.")]


def monitor(
    figures: Annotated[
        Path,
        typer.Option("--figures", metavar="FILE", help="The agent's: its socket's path, .prom."),
    ],
    metrics_port: Port = 9095,
    health_port: Port = 9096,
) -> None:
    """Serve the figures that the agent writes to Prometheus, and its health to gRPC."""
    from client.monitor import monitor_site
    from common.logs import configure_log

    configure_log("fedrec-site")
    signal.signal(signal.SIGTERM, _end)
    monitor_site(figures.absolute(), metrics_port, health_port)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)

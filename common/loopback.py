"""What a process shows of itself: a page for Prometheus and gRPC's standard health service.

Both are plain and unauthenticated, so they are bound to this machine unless an operator says
otherwise, and hold nothing that could not be shown to anybody.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, start_http_server

from common.errors import ConfigError

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_GRACE_S = 1.0


class HealthStates:
    """Which services are well; all are not, until it is told otherwise."""

    def __init__(self, services: Iterable[str]) -> None:
        """Names them; the empty name is the process as a whole."""
        self.servicer = health.HealthServicer()
        self._services = tuple(dict.fromkeys(["", *services]))
        self.set(dict.fromkeys(self._services, False))

    def set(self, well: dict[str, bool]) -> None:
        """Says which services are well."""
        for service in self._services:
            if service in well:
                self.servicer.set(service, _SERVING if well[service] else _NOT_SERVING)


@contextmanager
def health_served(states: HealthStates, address: str, port: int) -> Iterator[None]:
    """Serves ``grpc.health.v1.Health`` while the block runs; nothing at port 0.

    Raises:
        ConfigError: the port is taken, or no address of this machine.
    """
    if not port:
        yield
        return
    # Without so_reuseport=0 two processes could share the port, and answer by turns.
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(states.servicer, server)
    try:
        bound = server.add_insecure_port(f"{address}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise ConfigError([f"health_port={port} on {address} cannot be used; choose another"])
    server.start()
    try:
        yield
    finally:
        states.servicer.enter_graceful_shutdown()
        server.stop(_GRACE_S).wait()


@contextmanager
def metrics_served(registry: CollectorRegistry, address: str, port: int) -> Iterator[None]:
    """Serves the page of `registry` while the block runs; nothing at port 0.

    Raises:
        ConfigError: the port is taken, or no address of this machine.
    """
    if not port:
        yield
        return
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        reason = os.strerror(error.errno or errno.EADDRNOTAVAIL)
        raise ConfigError(
            [f"metrics_port={port} on {address} cannot be used ({reason}); choose another"]
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

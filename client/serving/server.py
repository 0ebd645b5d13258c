"""The service as a process sees it: limits, health, reflection, and an orderly end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from client.serving.access import TlsFiles, TokenNeeded, check_plain_text, credentials
from client.serving.metrics import ServingMetrics, WatchedPool
from client.serving.recommending import SiteRecommender
from client.serving.rpc import SERVICE, handler
from client.serving.service import behaviours
from common.errors import SiteAgentError

MAX_REQUEST_BYTES = 64 * 1024
MAX_PENDING = 100_000
GRACE_S = 20.0
"""What is in flight at the end may take so long; new requests are refused at once."""


@dataclass(frozen=True)
class Limits:
    """How much is taken on.

    Attributes:
        workers: requests that are answered at once.
        waiting: requests that may wait; further ones are told RESOURCE_EXHAUSTED.
    """

    workers: int = 4
    waiting: int = 64


class RunningService:
    """A service that answers.

    Attributes:
        address: where, with the port that was taken.
    """

    def __init__(self, server: grpc.Server, health_servicer: health.HealthServicer, address: str):
        """Of `serving`."""
        self._server = server
        self._health = health_servicer
        self.address = address

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Takes nothing new, and waits for what is in flight."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()


@contextmanager
def serving(
    recommender: SiteRecommender,
    address: str,
    *,
    token: str | None = None,
    tls: TlsFiles | None = None,
    limits: Limits | None = None,
    metrics: ServingMetrics | None = None,
) -> Iterator[RunningService]:
    """Serves until the block ends; what is in flight then is answered.

    Args:
        recommender: answers.
        address: ``HOST:PORT`` (port 0: any), or ``unix:PATH``.
        token: what clients must show; None: only under mutual TLS.
        tls: None: plain text, on this machine alone.
        limits: None: the defaults.
        metrics: what is counted; None: nobody looks.

    Raises:
        ConfigError: the address is open to a network without TLS.
        CertificateError: a TLS file cannot be used.
        SiteAgentError: the address is taken, or is none.
    """
    if token is None and (tls is None or tls.client_authority is None):
        raise ValueError("a token or mutual TLS is needed")  # our own fault, no operator's
    if tls is None:
        check_plain_text(address)
    limits, metrics = limits or Limits(), metrics or ServingMetrics()
    metrics.limited(limits.waiting)
    pool = WatchedPool(limits.workers, metrics)
    server = grpc.server(
        pool,
        interceptors=[] if token is None else [TokenNeeded(token, metrics.turned_away)],
        maximum_concurrent_rpcs=limits.workers + limits.waiting,
        options=[
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.so_reuseport", 0),  # a second service must not share the port unseen
            # Else the core cancels some of a flood before our own limit can say why.
            ("grpc.server.max_pending_requests", MAX_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_PENDING),
        ],
    )
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(
        [SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], server
    )
    server.add_generic_rpc_handlers((handler(behaviours(recommender, metrics)),))
    bound = _bind(server, address, None if tls is None else credentials(tls))
    server.start()
    for name in ("", SERVICE):
        checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    running = RunningService(server, checks, bound)
    try:
        yield running
    finally:
        running.stop()
        pool.shutdown()
        if address.startswith("unix:"):
            with suppress(FileNotFoundError):
                Path(address.removeprefix("unix:")).unlink()


def _bind(server: grpc.Server, address: str, tls: grpc.ServerCredentials | None) -> str:
    umask = os.umask(0o077)  # a Unix socket is this user's own
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, tls)
    except RuntimeError as error:
        raise SiteAgentError(
            f"cannot listen on {address}: it is taken, or is no HOST:PORT or unix:PATH; "
            "give another --listen"
        ) from error
    finally:
        os.umask(umask)
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

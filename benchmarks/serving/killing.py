"""Feedback from clients that try again, while the service is killed and started again."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from benchmarks.serving.process import Service
from client.serving import serving_pb2 as pb
from client.serving.feedback import Event, FeedbackStore
from client.serving.rpc import Client, client

RETRIABLE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


@dataclass
class Losses:
    """What clients that try again saw, and what the database had at the end."""

    sent: int
    answered: int
    recorded: int
    retries: int
    kills: int


def retried(ask: Client, request: pb.FeedbackRequest, service: Service) -> int:
    """Sends until it is answered; returns how often it had to be sent again."""
    for attempt in range(10_000):
        try:
            ask.Feedback(request, metadata=service.metadata, timeout=5)
        except grpc.RpcError as error:
            if error.code() not in RETRIABLE:
                raise
            time.sleep(0.1)
        else:
            return attempt
    raise TimeoutError("never answered")


def kill_under_load(
    service: Service,
    users: Sequence[str],
    items: Sequence[str],
    *,
    kills: int,
    every: float,
    clients: int = 8,
    pause: float = 0.0,
) -> Losses:
    """Feedback from `clients` while the service is killed and started again.

    Each sends its next row `pause` seconds after the one before was answered.
    """
    events, stop = [], threading.Event()
    retries: list[int] = []

    def send(worker: int) -> None:
        options = [("grpc.max_reconnect_backoff_ms", 500)]
        with grpc.insecure_channel(service.address, options=options) as channel:
            ask, number = client(channel), 0
            while not stop.is_set():
                event = Event(
                    secrets.token_hex(8),
                    users[(worker + number) % len(users)],
                    items[number % len(items)],
                    "taken",
                    1_000_000_000 + number,
                    "",
                )
                events.append(event)
                fields = {**event._asdict(), "kind": pb.FeedbackRequest.TAKEN}
                fields["unix_seconds"] = fields.pop("at")
                retries.append(retried(ask, pb.FeedbackRequest(**fields), service))
                number += 1
                time.sleep(pause)

    with ThreadPoolExecutor(clients) as pool:
        workers = [pool.submit(send, worker) for worker in range(clients)]
        try:
            for _ in range(kills):
                time.sleep(every)
                service.end(signal.SIGKILL)
                service.start()
                service.wait_until_ready()
            time.sleep(every)
        finally:
            stop.set()
        for each in workers:
            each.result()
    kept = Counter(FeedbackStore(service.site / "serving").events())
    recorded = sum(kept[event] == 1 for event in events)
    return Losses(len(events), len(retries), recorded, sum(retries), kills)

"""Lists at a fixed rate, whether or not earlier ones were answered."""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

from benchmarks.serving.killing import RETRIABLE
from benchmarks.serving.process import Service
from client.serving import serving_pb2 as pb
from client.serving.rpc import Client, client

K = 10
DEADLINE_S = 10.0
MOST_BACKOFF_S = 5.0
PATIENCE_S = 300.0
"""A client that tries again gives up then."""


@dataclass
class Latencies:
    """Of one load, in seconds from when a request was due, and how requests ended."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    retries: int = 0

    def summary(self) -> dict[str, object]:
        found = np.array(self.seconds) * 1000
        cuts = {f"p{cut:g}_ms": round(float(np.percentile(found, cut)), 2) for cut in (50, 90, 99)}
        return {"requests": len(found), **cuts, "max_ms": round(float(found.max()), 2)} | {
            "statuses": dict(self.statuses),
            "retries": self.retries,
        }


class _Load:
    """One load: who has been answered, and who tries again."""

    def __init__(self, ask: Client, service: Service, *, tries_again: bool) -> None:
        self.found, self._lock, self.ended = Latencies(), threading.Lock(), threading.Semaphore(0)
        self._ask, self._metadata, self._tries_again = ask, service.metadata, tries_again
        self._later: queue.PriorityQueue[tuple[float, int, str, float, int]] = queue.PriorityQueue()
        self._order = itertools.count()
        if tries_again:  # one thread: a thread for each would take the machine from the service
            threading.Thread(target=self._send_again, daemon=True).start()

    def send(self, user: str, due: float, attempt: int = 0) -> None:
        """Asks for one list; `due` on the clock of `time.perf_counter`."""
        call = self._ask.Recommend.future(
            pb.RecommendRequest(user=user, k=K),
            metadata=self._metadata,
            timeout=DEADLINE_S,
            wait_for_ready=self._tries_again,
        )
        call.add_done_callback(lambda call: self._done(user, due, attempt, call))

    def _send_again(self) -> None:
        while True:
            when, order, *asked = self._later.get()
            if when <= time.perf_counter():
                self.send(*asked)
            else:
                self._later.put((when, order, *asked))
                time.sleep(0.02)

    def _done(self, user: str, due: float, attempt: int, call: grpc.Future) -> None:
        now, code = time.perf_counter(), call.code()
        if self._tries_again and code in RETRIABLE and now - due < PATIENCE_S:
            with self._lock:
                self.found.retries += 1
            wait = min(0.2 * 2**attempt, MOST_BACKOFF_S) * random.uniform(0.5, 1.0)
            self._later.put((now + wait, next(self._order), user, due, attempt + 1))
            return
        with self._lock:
            self.found.seconds.append(now - due)
            is_list = code is grpc.StatusCode.OK and len(call.result().items) == K
            self.found.statuses["OK" if is_list else f"{code.name}"] += 1
        self.ended.release()


def open_loop(
    service: Service,
    users: Sequence[str],
    rate: float,
    seconds: float,
    *,
    tries_again: bool = False,
) -> Latencies:
    """`rate` requests a second for lists of ten, each counted from when it was due."""
    count = round(rate * seconds)
    options = [("grpc.max_reconnect_backoff_ms", 500)]
    with grpc.insecure_channel(service.address, options=options) as channel:
        load = _Load(client(channel), service, tries_again=tries_again)
        for user in users[:20]:
            client(channel).Recommend(
                pb.RecommendRequest(user=user, k=K), metadata=service.metadata
            )
        start = time.perf_counter() + 0.1
        for number in range(count):
            due = start + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            load.send(users[number % len(users)], due)
        for _ in range(count):
            load.ended.acquire()
    return load.found

"""The worker processes of a run, and how messages reach the one that has their site.

Site i is always worker i mod n's: its ledger and its node's state have one process. Workers
are started once, told nothing but messages, and end with the run, however that ends.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from flwr.app import Message

from common.errors import FederationError
from simulations.message_desk import FIRST_NODE_ID
from simulations.workers.process import WorkerTask, work
from simulations.workers.wire import (
    FAULT,
    REPLY,
    Share,
    message_from_bytes,
    message_to_bytes,
)

END_S = 10.0
"""Seconds that a stopped process has to be gone."""


@contextmanager
def worker_pool(tasks: Sequence[WorkerTask]) -> Iterator[WorkerPool]:
    """Starts one worker per task, and stops them all on the way out, whatever ends the run.

    They are stopped as they are: what was released is in their sites' ledgers, and nothing
    else of theirs is wanted.

    Raises:
        FederationError: a worker could not start.
    """
    pool = WorkerPool()
    try:
        pool.start(tasks)
        yield pool
    finally:
        pool.end()


class WorkerPool:
    """A `simulations.message_desk.Delivery` to the nodes of the workers."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []

    def start(self, tasks: Sequence[WorkerTask]) -> None:
        """Starts the workers, all at once, and waits until they are ready."""
        for at, task in enumerate(tasks):
            self._workers.append(_Worker(f"worker {at + 1} of {len(tasks)}", task))
        for worker in self._workers:
            worker.due = 1
        for worker in self._workers:
            self._next_frame(worker)

    def answers(
        self, messages: Sequence[Message], left_s: float | None
    ) -> Generator[Message | None]:
        """See `simulations.message_desk.Delivery`.

        Raises:
            FederationError: a worker ended; the line says which, and why.
        """
        self._catch_up()
        owners = [self._owner(message) for message in messages]
        for worker in self._workers:
            worker.ask(
                [m for m, owner in zip(messages, owners, strict=True) if owner is worker], left_s
            )
        for owner in owners:
            frame = self._next_frame(owner)
            yield message_from_bytes(frame[1:]) if frame[:1] == REPLY else None

    def end(self) -> None:
        """Stops the workers, and returns when they are gone."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _owner(self, message: Message) -> _Worker:
        partition = message.metadata.dst_node_id - FIRST_NODE_ID
        return self._workers[partition % len(self._workers)]

    def _catch_up(self) -> None:
        """Drops replies that nobody took: those after a deadline."""
        for worker in self._workers:
            while worker.due or worker.frames:
                self._next_frame(worker)

    def _next_frame(self, worker: _Worker) -> bytes:
        """The next frame of `worker`; what others send meanwhile is kept for them."""
        while not worker.frames:
            awaited = {each.connection: each for each in self._workers if each.due}
            for connection in wait(list(awaited)):
                awaited[connection].receive()  # type: ignore[index]
        return worker.frames.popleft()


class _Worker:
    """One process, its pipe, and the frames that came through it."""

    def __init__(self, name: str, task: WorkerTask) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, self.due = name, 0
        self.frames: deque[bytes] = deque()
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=work, args=(theirs, task), daemon=True, name=name
        )
        with _interrupts_held():
            self.process.start()
        theirs.close()

    def ask(self, messages: Sequence[Message], left_s: float | None) -> None:
        """Sends the worker its share of a chunk; it may have ended, which `receive` finds."""
        if not messages:
            return
        self.due = len(messages)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(Share(len(messages), left_s))
            for message in messages:
                self.connection.send_bytes(message_to_bytes(message))

    def receive(self) -> None:
        """Takes one frame off the pipe.

        Raises:
            FederationError: the worker has ended.
        """
        try:
            frame = self.connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            self.process.join(END_S)
            raise FederationError(
                f"{self.name} ended by itself (exit code {self.process.exitcode}); if memory ran "
                "out, lower engine.workers"
            ) from None
        if frame[:1] == FAULT:
            raise FederationError(f"{self.name}: {frame[1:].decode()}")
        self.due -= 1
        self.frames.append(frame)

    def end(self) -> None:
        """Waits for the process that was told to stop, and kills it where that takes long."""
        self.connection.close()
        self.process.join(END_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches whoever is started in here never, and this process a moment later.

    A terminal sends it to all processes of the run; only the run's own decides what ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""Gathers the training of many sites into one batch, in one thread.

Each site's whole answer (policy, budget, training, charge, encoding) runs in a greenlet of
its own. Where a site's agent asks its trainer, the greenlet is put aside; when all have
ended or wait, the waiting jobs are trained in one call, and each site goes on, in order,
with its own result. The agent's code is the same as for a site by itself, and nothing of two
sites ever runs at the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, cast

from greenlet import getcurrent, greenlet

from client.training_job import TrainingJob
from common.adapters import Adapter
from common.flat_adapter import Floats
from simulations.batch_trainer import BatchTrainer

T = TypeVar("T")
Work = Literal["updates", "exact_sums"]


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a site waits for."""

    work: Work
    job: TrainingJob


class GatheringTrainer:
    """A `client.training_job.Trainer` whose jobs are trained together.

    Outside of `together` a job is a batch of one.
    """

    def __init__(self, batch: BatchTrainer) -> None:
        """`batch` trains what was gathered."""
        self._batch = batch
        self._begun: set[greenlet] = set()

    def update(self, job: TrainingJob) -> Adapter:
        """See `client.training_job.Trainer`; returns when the whole batch is done."""
        return cast(Adapter, self._ask(_Asked("updates", job)))

    def exact_sum(self, job: TrainingJob) -> Floats:
        """See `client.training_job.Trainer`; returns when the whole batch is done."""
        return cast(Floats, self._ask(_Asked("exact_sums", job)))

    def together(self, calls: Sequence[Callable[[], T]]) -> Generator[T]:
        """Runs `calls`, and trains together what they ask for.

        A job that fails, or a batch that raises, raises in the calls that asked for it, and
        there only. While a call waits for its result it holds what it holds (a lock on its
        own site, say): no two calls may need the same.

        Args:
            calls: begun in this order, each run until it ends or asks; after the training,
                each goes on in the same order.

        Yields:
            What each call returned, in the order of `calls`, as soon as it is there. If
            nobody takes the next one, all calls that have begun are ended where they wait,
            with their ``finally`` blocks run.

        Raises:
            BaseException: a call let it out (an interruption, say); the others are ended.
        """
        queue: deque[_Call[T]] = deque()
        with ExitStack() as stack:
            for call in calls:
                queue.append(_Call(call, self._begun))
                stack.callback(queue[-1].end)
                queue[-1].begin()
                yield from _ended(queue)
            while queue:
                alike = [each for each in queue if each.work == queue[0].work]
                for each, outcome in zip(alike, self._trained(alike), strict=True):
                    each.go_on(*outcome)
                    yield from _ended(queue)

    def _ask(self, asked: _Asked) -> Any:
        current = getcurrent()
        if current in self._begun:
            return current.parent.switch(asked)
        (outcome,) = self._train([asked])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _trained(self, waiting: Sequence[_Call[Any]]) -> list[tuple[object, TracebackType | None]]:
        """What each of `waiting` asked for, all of one kind; with where it failed, if it did.

        The place is read before any site raises the failure: each then shows the training's
        own frames, and no other site's.
        """
        outcomes: Sequence[object]
        try:
            outcomes = self._train([each.asked for each in waiting if each.asked is not None])
        except Exception as fault:  # noqa: BLE001 - raised again in every site that asked
            outcomes = [fault] * len(waiting)
        return [(outcome, getattr(outcome, "__traceback__", None)) for outcome in outcomes]

    def _train(self, asked: Sequence[_Asked]) -> Sequence[object]:
        jobs = [each.job for each in asked]
        if asked[0].work == "updates":
            return self._batch.updates(jobs)
        return self._batch.exact_sums(jobs)


class _Call(Generic[T]):
    """One call in a greenlet of its own, below the one that makes it."""

    def __init__(self, call: Callable[[], T], begun: set[greenlet]) -> None:
        """`begun` holds the greenlets that may ask."""
        self._greenlet, self._begun = greenlet(call), begun
        self._greenlet.gr_context = copy_context()
        self.asked: _Asked | None = None
        self._result: T | None = None

    @property
    def work(self) -> Work | None:
        """The kind of work that it waits for."""
        return None if self.asked is None else self.asked.work

    @property
    def has_ended(self) -> bool:
        """Whether the call has returned."""
        return bool(self._greenlet.dead)

    def taken(self) -> T:
        """Hands out what the call returned; it is kept no longer."""
        result, self._result = self._result, None
        return cast(T, result)

    def begin(self) -> None:
        """Runs it until it ends or asks."""
        self._begun.add(self._greenlet)
        self._take(self._greenlet.switch())

    def go_on(self, outcome: object, place: TracebackType | None) -> None:
        """Gives it what it asked for, or raises that in it, and runs it further."""
        if isinstance(outcome, Exception):
            self._take(self._greenlet.throw(type(outcome), outcome, place))
        else:
            self._take(self._greenlet.switch(outcome))

    def end(self) -> None:
        """Ends it where it waits; nothing happens if it has ended."""
        self._begun.discard(self._greenlet)
        if not self.has_ended:
            self._greenlet.throw()

    def _take(self, value: Any) -> None:
        self.asked, self._result = (None, value) if self.has_ended else (value, None)


def _ended(queue: deque[_Call[T]]) -> Iterator[T]:
    """Takes the calls that have ended off the head of the queue."""
    while queue and queue[0].has_ended:
        yield queue.popleft().taken()

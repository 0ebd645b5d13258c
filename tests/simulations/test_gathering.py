"""Sites in greenlets: order, batches, failures and ends; the jobs are only handed through."""

from __future__ import annotations

import contextvars
import gc
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.training_job import TrainingJob
from common.adapters import Adapter
from common.flat_adapter import Floats
from simulations.batch_trainer import OneByOne
from simulations.gathering import GatheringTrainer
from tests.training_jobs import job_of

NO_PRIOR = np.zeros(0, dtype=np.float32)


class Named:
    """A Trainer whose update is the site's own name; some sites fail."""

    def __init__(self, failing: Sequence[str] = ()) -> None:
        self.failing = failing

    def update(self, job: TrainingJob) -> Adapter:
        if job.site in self.failing:
            raise RuntimeError(f"{job.site} failed")
        return {job.site: NO_PRIOR}

    def exact_sum(self, job: TrainingJob) -> Floats:
        return np.array([float(job.site)])


class Journal(OneByOne):
    """Keeps which sites were trained together."""

    def __init__(self, trainer: Named | None = None) -> None:
        super().__init__(trainer or Named())
        self.batches: list[tuple[str, list[str]]] = []

    def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter | Exception]:
        self.batches.append(("updates", [job.site for job in jobs]))
        return super().updates(jobs)

    def exact_sums(self, jobs: Sequence[TrainingJob]) -> list[Floats | Exception]:
        self.batches.append(("exact_sums", [job.site for job in jobs]))
        return super().exact_sums(jobs)


def asking(trainer: GatheringTrainer, site: str) -> Callable[[], str]:
    return lambda: next(iter(trainer.update(job_of(site))))


def test_jobs_are_trained_together_and_each_gets_its_own() -> None:
    journal = Journal()
    trainer = GatheringTrainer(journal)
    found = list(trainer.together([asking(trainer, site) for site in "abc"]))
    assert found == ["a", "b", "c"]
    assert journal.batches == [("updates", ["a", "b", "c"])]


def test_alone_a_job_is_a_batch_of_one() -> None:
    journal = Journal(Named(failing="b"))
    trainer = GatheringTrainer(journal)
    assert list(trainer.update(job_of("a"))) == ["a"]
    assert trainer.exact_sum(job_of("3")) == [3.0]
    with pytest.raises(RuntimeError, match="b failed"):
        trainer.update(job_of("b"))
    assert [sites for _, sites in journal.batches] == [["a"], ["3"], ["b"]]


@given(asks=st.lists(st.integers(0, 3), max_size=12))
def test_any_mixture_comes_back_in_order(asks: list[int]) -> None:
    journal = Journal()
    trainer = GatheringTrainer(journal)

    def site(at: int, times: int) -> Callable[[], tuple[int, list[str]]]:
        def call() -> tuple[int, list[str]]:
            return at, [next(iter(trainer.update(job_of(f"{at}.{n}")))) for n in range(times)]

        return call

    found = list(trainer.together([site(at, times) for at, times in enumerate(asks)]))
    assert found == [(at, [f"{at}.{n}" for n in range(n_)]) for at, n_ in enumerate(asks)]
    trained = [name for _, sites in journal.batches for name in sites]
    assert sorted(trained) == sorted(f"{at}.{n}" for at, n_ in enumerate(asks) for n in range(n_))
    assert len(journal.batches) == max(asks, default=0)


def test_updates_and_sums_are_never_in_one_batch() -> None:
    journal = Journal()
    trainer = GatheringTrainer(journal)
    calls: list[Callable[[], Any]] = [
        asking(trainer, "1"),
        lambda: trainer.exact_sum(job_of("2")),
        asking(trainer, "3"),
    ]
    found = list(trainer.together(calls))
    assert found == ["1", np.array([2.0]), "3"]
    assert journal.batches == [("updates", ["1", "3"]), ("exact_sums", ["2"])]


def test_the_sites_own_work_runs_in_order_before_and_after_the_training() -> None:
    events: list[str] = []

    class Seen(Journal):
        def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter | Exception]:
            events.append("train")
            return super().updates(jobs)

    trainer = GatheringTrainer(Seen())

    def site(name: str) -> Callable[[], str]:
        def call() -> str:
            events.append(f"check {name}")
            trainer.update(job_of(name))
            events.append(f"charge {name}")
            return name

        return call

    list(trainer.together([site("a"), lambda: events.append("refuse b") or "b", site("c")]))
    assert events == ["check a", "refuse b", "check c", "train", "charge a", "charge c"]


def test_a_job_that_fails_fails_in_its_own_site_only() -> None:
    trainer = GatheringTrainer(Journal(Named(failing="b")))

    def guarded(site: str) -> Callable[[], str]:
        def call() -> str:
            try:
                return asking(trainer, site)()
            except RuntimeError as fault:
                return f"refused: {fault}"

        return call

    found = list(trainer.together([guarded(site) for site in "abc"]))
    assert found == ["a", "refused: b failed", "c"]


def test_a_batch_that_raises_raises_in_every_site_that_asked() -> None:
    class Full(Journal):
        def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter | Exception]:
            raise MemoryError("too many rows")

    trainer, frames = GatheringTrainer(Full()), []

    def guarded(site: str) -> Callable[[], str]:
        def call() -> str:
            try:
                return asking(trainer, site)()
            except MemoryError as fault:
                names = [each.name for each in traceback.extract_tb(fault.__traceback__)]
                frames.append(names)
                return str(fault)

        return call

    calls = [*(guarded(site) for site in "abc"), lambda: "d"]
    assert list(trainer.together(calls)) == ["too many rows"] * 3 + ["d"]
    # Each site's log shows where the training failed, and no frames of the sites before it.
    assert "updates" in frames[0]
    assert frames[0] == frames[1] == frames[2]


def test_an_interruption_in_the_training_ends_every_site_where_it_waits() -> None:
    class Interrupted(Journal):
        def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter | Exception]:
            raise KeyboardInterrupt

    trainer, left = GatheringTrainer(Interrupted()), []

    def site(name: str) -> Callable[[], str]:
        def call() -> str:
            try:
                trainer.update(job_of(name))
            except Exception:
                left.append(f"{name} went on")
                raise
            finally:
                left.append(name)
            return name

        return call

    with pytest.raises(KeyboardInterrupt):
        list(trainer.together([site(name) for name in "abc"]))
    assert sorted(left) == ["a", "b", "c"]


def test_an_interruption_in_a_site_comes_after_the_replies_before_it() -> None:
    trainer, left = GatheringTrainer(Journal()), []

    def interrupted() -> str:
        trainer.update(job_of("b"))
        raise KeyboardInterrupt

    def third() -> str:
        try:
            return asking(trainer, "c")()
        finally:
            left.append("c")

    found = trainer.together([asking(trainer, "a"), interrupted, third])
    assert next(found) == "a"
    with pytest.raises(KeyboardInterrupt):
        next(found)
    assert left == ["c"]


def test_sites_end_when_nobody_takes_the_next_reply() -> None:
    journal, left = Journal(), []
    trainer = GatheringTrainer(journal)

    def waiting() -> str:
        try:
            return asking(trainer, "b")()
        finally:
            left.append("b")

    with closing(trainer.together([lambda: "a", waiting, lambda: "c"])) as found:
        assert next(found) == "a"
        assert left == []
    assert left == []  # the second had not begun: nothing is run ahead of its reply's turn
    with closing(trainer.together([lambda: "a", waiting, asking(trainer, "c")])) as found:
        assert [next(found), next(found)] == ["a", "b"]
    assert journal.batches == [("updates", ["b", "c"])]


def test_a_site_that_waits_is_ended_with_its_finally_blocks() -> None:
    trainer, left = GatheringTrainer(Journal()), []

    def site(name: str) -> Callable[[], str]:
        def call() -> str:
            try:
                return asking(trainer, name)()
            finally:
                left.append(name)

        return call

    found = trainer.together([site("a"), site("b")])
    assert next(found) == "a"  # b was trained, and waits to go on
    found.close()
    assert left == ["a", "b"]


def test_a_site_sees_the_callers_context_and_what_it_sets_stays_its_own() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="-")
    trainer = GatheringTrainer(Journal())

    def site(name: str) -> Callable[[], str]:
        def call() -> str:
            before = variable.get()
            variable.set(name)
            trainer.update(job_of(name))
            return before + variable.get()

        return call

    token = variable.set("run ")
    assert list(trainer.together([site("a"), site("b")])) == ["run a", "run b"]
    assert variable.get() == "run "
    variable.reset(token)


def test_a_batch_with_a_missing_result_is_an_error() -> None:
    class Short(Journal):
        def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter | Exception]:
            return super().updates(jobs)[:-1]

    trainer = GatheringTrainer(Short())
    with pytest.raises(ValueError, match="zip"):
        list(trainer.together([asking(trainer, site) for site in "ab"]))


@pytest.mark.slow
def test_what_was_handed_on_is_not_kept() -> None:
    class Reply:
        pass

    def replies() -> Iterator[weakref.ref[Reply]]:
        for reply in trainer.together([Reply] * 5):
            yield weakref.ref(reply)

    trainer = GatheringTrainer(Journal())
    seen = []
    for reference in replies():
        gc.collect()
        seen.append(reference)
        assert sum(each() is not None for each in seen) <= 1

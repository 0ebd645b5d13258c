"""Who trains the jobs of many sites at once, and the one that does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from client.training_job import Trainer, TrainingJob
from common.adapters import Adapter
from common.flat_adapter import Floats

T = TypeVar("T")


class BatchTrainer(Protocol):
    """Trains many sites; each job's result is what a `Trainer` gives for it alone.

    A job's place may hold an exception instead: then this site alone has failed. What a
    method raises is the failure of every job in the call.
    """

    def updates(self, jobs: Sequence[TrainingJob]) -> Sequence[Adapter | Exception]:
        """For each job what `Trainer.update` gives, in the order of `jobs`."""
        ...

    def exact_sums(self, jobs: Sequence[TrainingJob]) -> Sequence[Floats | Exception]:
        """For each job what `Trainer.exact_sum` gives, in the order of `jobs`."""
        ...


class OneByOne:
    """Asks a `Trainer` for one job after the other; a job that fails takes no other along."""

    def __init__(self, trainer: Trainer) -> None:
        """`trainer` does each job by itself."""
        self._trainer = trainer

    def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter | Exception]:
        """See `BatchTrainer`."""
        return [_outcome(self._trainer.update, job) for job in jobs]

    def exact_sums(self, jobs: Sequence[TrainingJob]) -> list[Floats | Exception]:
        """See `BatchTrainer`."""
        return [_outcome(self._trainer.exact_sum, job) for job in jobs]


def _outcome(work: Callable[[TrainingJob], T], job: TrainingJob) -> T | Exception:
    try:
        return work(job)
    except Exception as fault:  # noqa: BLE001 - raised again in the site that asked
        return fault

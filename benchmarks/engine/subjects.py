"""Who is measured: name → a function from a task to its measurement.

A new subject is one entry of `SUBJECTS`; it runs in a process of its own, and imports what it
needs inside its function, so that no subject pays for another's libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.engine.measurement import Measurement, Task


@dataclass(frozen=True)
class Subject:
    """A measured engine.

    Attributes:
        text: its line in the table.
        measure: runs in the subject's own process.
        workloads: those that it knows.
        is_fedrec: whether its rates are divided by peer A's.
    """

    text: str
    measure: Callable[[Task], Measurement]
    workloads: tuple[str, ...]
    is_fedrec: bool = False


def _flower(task: Task) -> Measurement:
    from benchmarks.engine import flower_peer

    return flower_peer.measure(task, cached=False)


def _flower_cached(task: Task) -> Measurement:
    from benchmarks.engine import flower_peer

    return flower_peer.measure(task, cached=True)


def _opacus(task: Task) -> Measurement:
    from benchmarks.engine import plain_peers

    return plain_peers.measure(task, private=True)


def _lora(task: Task) -> Measurement:
    from benchmarks.engine import plain_peers

    return plain_peers.measure(task, private=False)


def _pfl(task: Task) -> Measurement:
    from benchmarks.engine import pfl_peer

    return pfl_peer.measure(task)


def _fedrec(task: Task) -> Measurement:
    from benchmarks.engine import fedrec_subject

    return fedrec_subject.measure(task)


SUBJECTS: Mapping[str, Subject] = {
    "A": Subject("Flower (Ray) + PEFT + Opacus", _flower, ("all", "top2", "device")),
    "A2": Subject("the same, model kept by each worker", _flower_cached, ("all", "top2")),
    "B": Subject("Opacus + PEFT, one process", _opacus, ("all", "top2")),
    "C": Subject("LoRA without privacy, one process", _lora, ("all", "top2")),
    "D": Subject("pfl-research (no example-level DP)", _pfl, ("all", "top2")),
    "fedrec": Subject("fedrec", _fedrec, ("all", "top2", "default", "device"), is_fedrec=True),
}
PEERS = tuple(name for name, subject in SUBJECTS.items() if not subject.is_fedrec)

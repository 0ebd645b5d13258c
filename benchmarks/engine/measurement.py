"""What one subject measured in one process of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """What a subject is asked to run; it travels as JSON to the subject's process.

    Attributes:
        subject: its name in the registry.
        workload: name of the workload.
        threads: cores that it may use.
        quick: whether to measure less.
        device: ``cpu`` or a CUDA device.
        data: folder with the peers' prepared examples.
        scratch: a folder of its own.
        overrides: further ``section.key=value`` of fedrec's configuration.
    """

    subject: str
    workload: str
    threads: int
    quick: bool
    device: str
    data: str
    scratch: str
    overrides: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Task:
        """Reads what `write` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "overrides": tuple(values["overrides"])})

    def write(self, path: Path) -> Path:
        """Writes the task as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path


@dataclass(frozen=True)
class Measurement:
    """Work done in the measured part, and how long it took.

    Attributes:
        target_positions: targets that entered a loss; a peer's example has one.
        seconds: wall-clock time of the measured rounds or steps, warm-up excluded.
        client_rounds: how often a client (site) trained in a round.
        start_seconds: from the process's start of work to the measured part: imports,
            loading, Ray, warm-up.
        samples: target positions per second of each measured round or step.
        notes: what a reader of the figure should know.
        extra: further figures by name.
    """

    target_positions: float
    seconds: float
    client_rounds: float
    start_seconds: float
    samples: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Target positions per second."""
        return self.target_positions / self.seconds


class NotAvailable(Exception):
    """The subject cannot be measured here; its text says why."""

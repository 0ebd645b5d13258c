"""How many inputs each door was given, and what it said; printed at the end of the tests."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, settings

INPUTS = "FEDREC_FUZZ_INPUTS"
"""Names the inputs wanted over all doors together; unset: a few hundred, always the same."""
QUICK = 400
REPEATED = 1.3
"""Some inputs come twice: hypothesis likes to try what it tried before. They count once."""
_PARTICULAR = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9a-f]{12,}…?|-?\d+(\.\d+)?(e[+-]?\d+)?")


@dataclass
class Door:
    """What one door was given: distinct inputs, what it said to them, and for how long."""

    inputs: set[bytes] = field(default_factory=set)
    said: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


DOORS: dict[str, Door] = {}


@contextmanager
def knocked(door: str, content: bytes) -> Iterator[Counter[str]]:
    """One input at a door; what the door says goes into the counter, by kind."""
    at = DOORS.setdefault(door, Door())
    at.inputs.add(hashlib.sha256(content).digest())
    begun = time.monotonic()
    try:
        yield at.said
    finally:
        at.seconds += time.monotonic() - begun


def sort_of(line: str) -> str:
    """A line without what is particular to one input."""
    return _PARTICULAR.sub("…", line)


def wanted() -> int:
    """Inputs over all doors together."""
    return int(os.environ.get(INPUTS, QUICK))


def is_long() -> bool:
    """Whether somebody asked for many inputs."""
    return INPUTS in os.environ


def share(part: float) -> settings:
    """Hypothesis's settings for a test that gives a door `part` of all inputs.

    The quick run is the same one at every time; the long one is new at every time, and prints
    how to see a fault again.
    """
    quick = not is_long()
    return settings(
        max_examples=max(round(part * wanted() * (1 if quick else REPEATED)), 5),
        deadline=None,
        derandomize=quick,
        database=None,
        print_blob=not quick,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def table() -> list[str]:
    """The doors, a line for each, and their sum."""
    lines = [f"{'door':<34} {'inputs':>7} {'kinds of answer':>16} {'seconds':>8}"]
    for name, door in sorted(DOORS.items()):
        lines.append(f"{name:<34} {len(door.inputs):>7} {len(door.said):>16} {door.seconds:>8.1f}")
    seconds = sum(door.seconds for door in DOORS.values())
    lines.append(f"{'all':<34} {total():>7} {'':>16} {seconds:>8.1f}")
    return lines


def total() -> int:
    """Distinct inputs over all doors."""
    return sum(len(door.inputs) for door in DOORS.values())

"""Where fedrec's rounds spend their time, by section.

Each named function is wrapped with a clock that holds its own seconds only: what a section
calls of another section counts there. Names that this fedrec does not have are left out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.engine import fedrec_subject
from benchmarks.engine.fedrec_subject import RoundClock, holders
from benchmarks.engine.isolated import Outcome
from benchmarks.engine.measurement import NotAvailable, Task
from benchmarks.engine.subject_process import NOT_AVAILABLE

WORKLOADS = ("default", "top2")
REST = "messages, ledger, releases, other"
# Section → functions as module:name, of the stacked engine and of the Opacus path.
SECTIONS: dict[str, tuple[str, ...]] = {
    "item table": ("common.recommender:Recommender.table",),
    "encoder forward": (
        "common.item_tower:ItemTower.forward",
        "simulations.stacked.packed_tower:PackedItemTower.encode",
    ),
    "encoder backward, per-unit gradients of LoRA": (
        "simulations.stacked.packed_tower:PackedItemTower.unit_gradients",
    ),
    "head": (
        "common.bilinear_head:BilinearHead.forward",
        "common.user_tower:MultiLagHead.forward",
        "common.score_terms:ScoreTerms.forward",
    ),
    "backward": ("torch.autograd:backward", "torch.autograd:grad"),
    "per-unit gradients": ("client.grad_samplers:_GroupedHooks.capture_backprops_hook",),
    "clipping and noise": (
        "client.private_step:_UnitOptimizer.clip_and_accumulate",
        "client.private_step:_UnitOptimizer.add_noise",
        "simulations.stacked.unit_gradients:_square_norms",
        "simulations.stacked.unit_gradients:_add",
        "client.unit_updates:noised_sum",
    ),
    "drawing and collating": (
        "client.local_steps:drawn",
        "client.local_steps:collate",
    ),
}
WHOLE = ("item table",)  # what it calls is its own


class SectionClock(RoundClock):
    """Own seconds of each section, within training rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: dict[str, float] = {}
        self._open: list[str] = []
        self._since: float | None = None

    def round_started(self, server_round: int) -> None:
        super().round_started(server_round)
        self._since = time.perf_counter()

    def round_finished(self, record: Mapping[str, object]) -> None:
        self.switch()
        self._since = None
        super().round_finished(record)

    def switch(self) -> None:
        """Books the time since the last switch."""
        if self._since is None:
            return
        now = time.perf_counter()
        section = self._open[-1] if self._open else REST
        self.sections[section] = self.sections.get(section, 0.0) + now - self._since
        self._since = now

    def wrap(self, section: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose seconds count for `section`."""

        @wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._open and self._open[-1] in WHOLE:
                return function(*arguments, **named)
            self.switch()
            self._open.append(section)
            try:
                return function(*arguments, **named)
            finally:
                self.switch()
                self._open.pop()

        return timed


@contextmanager
def clocked(clock: SectionClock) -> Iterator[list[str]]:
    """Wraps all sections' functions; gives the names that were not found."""
    missing: list[str] = []
    with ExitStack() as stack:
        for section, names in SECTIONS.items():
            for name in names:
                module, _, path = name.partition(":")
                owner: Any = import_module(module)
                *outer, last = path.split(".")
                for part in outer:
                    owner = getattr(owner, part, None)
                function = getattr(owner, last, None)
                if function is None:
                    missing.append(name)
                    continue
                wrapped = clock.wrap(section, function)
                for holder in [owner] if outer else holders(last, function):
                    stack.enter_context(mock.patch.object(holder, last, wrapped))
        yield missing


def measure(
    task_of: Callable[..., Task],
    runner: Callable[..., Outcome],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """The shares of each section, in a process of its own for each workload."""
    found: dict[str, Any] = {}
    for workload in WORKLOADS:
        outcome = runner(task_of(workload, "fedrec"), "benchmarks.engine.time_profile")
        if outcome.measurement is None:
            found[workload] = {"reason": outcome.reason}
            tell(f"profile of {workload}: {outcome.reason}")
            continue
        found[workload] = outcome.measurement.extra["profile"]
        shares = found[workload]["shares"].items()
        tell(f"profile of {workload}: " + ", ".join(f"{name} {s:.1%}" for name, s in shares))
    return found


def main() -> None:
    """The process of one profile."""
    task, clock = Task.read(Path(sys.argv[1])), SectionClock()
    with clocked(clock) as missing:
        try:
            measured = fedrec_subject.measure(task, clock)
        except NotAvailable as reason:
            answer: dict[str, Any] = {NOT_AVAILABLE: str(reason)}
        else:
            total = sum(clock.sections.values())
            shares = {name: s / total for name, s in sorted(clock.sections.items())}
            profile = {"shares": shares, "not_found": missing}
            answer = asdict(replace(measured, extra={**measured.extra, "profile": profile}))
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()

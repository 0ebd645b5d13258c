"""``PYTHONPATH=. python -m benchmarks.engine``: the table of `docs/performance.md`, in one run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from common.process_environment import quiet_third_parties

quiet_third_parties()

from benchmarks.engine import cost_curves, private_cost, time_profile  # noqa: E402
from benchmarks.engine.examples import prepare_examples  # noqa: E402
from benchmarks.engine.gpu import device_name  # noqa: E402
from benchmarks.engine.isolated import Outcome, run_isolated  # noqa: E402
from benchmarks.engine.measurement import Task  # noqa: E402
from benchmarks.engine.pfl_peer import PYTHON_VARIABLE  # noqa: E402
from benchmarks.engine.report import document, machine, row, show  # noqa: E402
from benchmarks.engine.subjects import PEERS, SUBJECTS  # noqa: E402
from benchmarks.engine.workloads import WORKLOADS  # noqa: E402
from common.atomic_files import write_json  # noqa: E402

REPEATED = ("A", "fedrec")  # the others are context; their spread is that of their steps
QUICK_PEERS = ("A", "B", "C")
Runner = Callable[[Task], Outcome]


def measure_all(
    plan: Sequence[tuple[str, str]],
    task_of: Callable[[str, str], Task],
    repeats: int,
    runner: Runner,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Measures every (workload, subject) of `plan`, alternating subjects within a workload.

    A subject that fails has its reason in its row, is not tried again, and stops nobody.
    """
    outcomes: dict[tuple[str, str], list[Outcome]] = {pair: [] for pair in plan}
    for workload in dict.fromkeys(name for name, _ in plan):
        for repeat in range(repeats):
            for pair in (pair for pair in plan if pair[0] == workload):
                before = outcomes[pair]
                if repeat and (pair[1] not in REPEATED or before[-1].measurement is None):
                    continue
                before.append(runner(task_of(*pair)))
                tell(_line(pair, before[-1]))
    return [row(*pair, outcomes[pair]) for pair in plan]


def _line(pair: tuple[str, str], outcome: Outcome) -> str:
    name = f"{pair[0]} {pair[1]}"
    if outcome.measurement is None:
        return f"{name}: {outcome.reason}"
    rate = outcome.measurement.rate
    return f"{name}: {rate:.3g} positions/s ({outcome.wall_seconds:.0f} s in all)"


def planned(workloads: str, peers: str) -> list[tuple[str, str]]:
    """(workload, subject) pairs in the order of the table."""
    chosen = [name.strip() for name in workloads.split(",") if name.strip()]
    asked = [name.strip() for name in peers.split(",") if name.strip()]
    subjects = [*asked, *(name for name in SUBJECTS if name not in PEERS)]
    for name, known in [(n, WORKLOADS) for n in chosen] + [(n, SUBJECTS) for n in subjects]:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}")
    return [(w, s) for w in chosen for s in subjects if w in SUBJECTS[s].workloads]


def main(
    json_file: Annotated[Path, typer.Option("--json", help="where the figures go")],
    workloads: Annotated[str, typer.Option(help="which, by commas")] = ",".join(WORKLOADS),
    peers: Annotated[
        str | None, typer.Option(help="which, by commas; empty: none; quick: A,B,C, else all")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="cores of every subject")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N")] = "cpu",
    repeats: Annotated[int, typer.Option(min=1, help="of peer A and fedrec")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="one repeat, less work")] = False,
    private: Annotated[bool, typer.Option("--private-cost", help="with ÷ without DP")] = False,
    curves: Annotated[bool, typer.Option("--curves", help="sites, units, rank, layers")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="where the time goes")] = False,
    pfl_python: Annotated[str, typer.Option(help="a Python that has pfl-research")] = "",
) -> None:
    """Measures fedrec and its peers, each in fresh processes, and prints the ratios."""
    usual = ",".join(QUICK_PEERS if quick else PEERS)
    plan = planned(workloads, usual if peers is None else peers)
    if pfl_python:
        os.environ[PYTHON_VARIABLE] = pfl_python
    console = Console()
    facts = machine(threads, device, device_name(device))
    with tempfile.TemporaryDirectory(prefix="fedrec-benchmark-") as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        prepare_examples(data)

        def task_of(workload: str, subject: str, *overrides: str) -> Task:
            return Task(
                subject, workload, threads, quick, device, str(data), scratch, tuple(overrides)
            )

        rows = measure_all(plan, task_of, 1 if quick else repeats, run_isolated, console.print)
        extra = {
            name: measure(task_of, run_isolated, console.print)
            for name, wanted, measure in (
                ("private_cost", private, private_cost.measure),
                ("curves", curves, cost_curves.measure),
                ("profile", profile, time_profile.measure),
            )
            if wanted
        }
    write_json(json_file, document(facts, rows, quick=quick, extra=extra))
    show(rows, console)
    console.print(f"figures: {json_file}")
    if any(entry["failed"] for entry in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

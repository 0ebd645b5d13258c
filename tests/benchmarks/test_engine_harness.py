"""The harness of the throughput benchmark: plan, rows, ratios, and a subject that fails."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from rich.console import Console

from benchmarks.engine.__main__ import measure_all, planned
from benchmarks.engine.isolated import Outcome, run_isolated
from benchmarks.engine.measurement import Measurement, Task
from benchmarks.engine.report import document, ratios, row, show, spread
from benchmarks.engine.tree_memory import TreeMemory, memory_of

TASK = Task("A", "all", 1, True, "cpu", "data", "scratch")


def measured(rate: float, *, peak: int = 2**30) -> Outcome:
    figures = Measurement(
        target_positions=rate * 10,
        seconds=10.0,
        client_rounds=20,
        start_seconds=1.0,
        samples=(rate * 0.9, rate * 1.1),
    )
    return Outcome(figures, "", False, peak, peak + 2**20, 12.0, None)


FAILED = Outcome(None, "failed: no memory", True, 0, 0, 3.0, None)
ABSENT = Outcome(None, "not measured: no pfl", False, 0, 0, 3.0, None)


def task_of(workload: str, subject: str) -> Task:
    return replace(TASK, workload=workload, subject=subject)


def test_plan_has_only_what_a_subject_knows() -> None:
    assert planned("top2,default", "A,D") == [
        ("top2", "A"),
        ("top2", "D"),
        ("top2", "fedrec"),
        ("default", "fedrec"),
    ]


@pytest.mark.parametrize(("workloads", "peers"), [("most", "A"), ("all", "A,Z")])
def test_unknown_names_are_refused(workloads: str, peers: str) -> None:
    with pytest.raises(typer.BadParameter, match="is none of"):
        planned(workloads, peers)


def test_a_failing_subject_is_reported_and_the_others_go_on() -> None:
    order: list[str] = []

    def runner(task: Task) -> Outcome:
        order.append(task.subject)
        return {"A": measured(2.0), "D": FAILED, "fedrec": measured(8.0)}[task.subject]

    plan = [("all", "A"), ("all", "D"), ("all", "fedrec")]
    rows = measure_all(plan, task_of, 2, runner, lambda _line: None)
    # Alternating; the failed one is not tried again.
    assert order == ["A", "D", "fedrec", "A", "fedrec"]
    assert [entry["failed"] for entry in rows] == [False, True, False]
    assert rows[1]["reason"] == "failed: no memory"
    assert ratios(rows)[0]["throughput"] == pytest.approx(4.0)


def test_a_failed_subject_is_not_tried_again() -> None:
    outcomes = iter([FAILED, measured(8.0)])
    plan = [("all", "A")]
    (entry,) = measure_all(plan, task_of, 2, lambda _task: next(outcomes), lambda _line: None)
    assert entry["reason"] == FAILED.reason
    assert "positions_per_second" not in entry


def test_what_is_absent_is_no_failure() -> None:
    entry = row("all", "D", [ABSENT])
    assert not entry["failed"]
    assert entry["reason"] == "not measured: no pfl"


def test_row_is_the_median_with_spread_and_largest_peak() -> None:
    entry = row("all", "A", [measured(2.0), measured(4.0, peak=3 * 2**30), measured(3.0)])
    assert entry["positions_per_second"] == pytest.approx(3.0)
    assert entry["spread"] == pytest.approx(2 / 3)
    assert entry["peak_bytes"] == 3 * 2**30
    assert entry["client_rounds_per_second"] == pytest.approx(2.0)


def test_one_repeat_has_the_spread_of_its_samples() -> None:
    assert row("all", "A", [measured(2.0)])["spread"] == pytest.approx(0.2)
    assert spread([1.0]) is None


def test_default_is_divided_by_the_peers_top2() -> None:
    rows = [row("top2", "A", [measured(5.0)]), row("default", "fedrec", [measured(100.0)])]
    (entry,) = ratios(rows)
    assert (entry["workload"], entry["throughput"]) == ("default", pytest.approx(20.0))
    # Ours is the bound, the peer's what was seen.
    assert entry["peak_memory"] == pytest.approx(1 + 2**-10)


def test_no_ratio_without_the_peer() -> None:
    assert ratios([row("all", "A", [FAILED]), row("all", "fedrec", [measured(1.0)])]) == []


def test_json_and_table() -> None:
    rows = [
        row("all", "A", [measured(2.0)]),
        row("all", "D", [ABSENT]),
        row("all", "fedrec", [measured(8.0)]),
    ]
    whole = document({"threads": 1}, rows, quick=True, extra={"curves": {}})
    read = json.loads(json.dumps(whole))
    assert read["results"][0]["repeats"][0]["measurement"]["seconds"] == 10.0
    assert read["ratios"][0]["must_fp32"] == 1.8
    console = Console(record=True, width=160, file=sys.stderr)
    show(rows, console)
    text = console.export_text()
    assert "not measured: no pfl" in text
    assert "fedrec ÷ peer A = 4.00" in text


def test_a_process_that_dies_is_an_outcome(tmp_path: Path) -> None:
    task = replace(TASK, subject="nobody", scratch=str(tmp_path))
    outcome = run_isolated(task)
    assert outcome.failed
    assert outcome.measurement is None
    assert "nobody" in outcome.reason


def test_task_travels_as_json(tmp_path: Path) -> None:
    task = replace(TASK, overrides=("model.lora_rank=2",))
    assert Task.read(task.write(tmp_path / "task.json")) == task


def test_memory_of_a_tree_counts_own_pages_of_all_and_files_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = {
        1: {"peak": 100, "own": 60, "files": 30, "shared": 0},
        2: {"peak": 50, "own": 10, "files": 20, "shared": 5},
    }
    monkeypatch.setattr("benchmarks.engine.tree_memory.memory_of", lambda pid: now.get(pid, {}))
    memory = TreeMemory()
    memory.see([1, 2, 3])
    assert (memory.peak, memory.bound) == (60 + 10 + 30, 70 + 25 + 30)
    del now[1]
    memory.see([1, 2])
    assert (memory.peak, memory.bound) == (100, 125)  # what ended stays in the peaks


def test_memory_of_this_process() -> None:
    found = memory_of(os.getpid())
    assert found["peak"] >= found["own"] > 2**20
    assert memory_of(2**22 + 1) == {}

"""Peer D: pfl-research, in the Python that ``--pfl-python`` names, or this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.engine.measurement import Measurement, NotAvailable, Task
from benchmarks.engine.workloads import (
    BATCH,
    CLIP,
    LEARNING_RATE,
    SIGMA,
    WORKLOADS,
)

PYTHON_VARIABLE = "FEDREC_BENCH_PFL_PYTHON"
CLIENTS = 2  # of 8: one process trains them one after the other, so that the rate is the same
NEEDED = "import numpy, peft, pfl, torch, transformers"


def measure(task: Task) -> Measurement:
    """Runs `benchmarks.engine.pfl_run` there; its first iteration is the warm-up.

    Raises:
        NotAvailable: That Python lacks pfl or what the model needs.
    """
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    asked = subprocess.run([python, "-c", NEEDED], capture_output=True, text=True, check=False)
    if asked.returncode:
        why = (asked.stderr.strip().splitlines() or ["it does not start"])[-1]
        raise NotAvailable(f"not measured: pfl does not import in the given Python ({why})")
    workload = WORKLOADS[task.workload]
    job = {
        "data": task.data,
        "device": task.device,
        "threads": task.threads,
        "sites": workload.sites,
        "clients": CLIENTS,
        "rounds": workload.rounds,
        "steps": workload.steps,
        "batch": BATCH,
        "lora_layers": workload.lora_layers,
        "learning_rate": LEARNING_RATE,
        "clip": CLIP,
        "sigma": SIGMA,
    }
    job_file, figures_file = (Path(task.scratch) / f"pfl-{name}.json" for name in ("job", "out"))
    job_file.write_text(json.dumps(job), encoding="utf-8")
    subprocess.run(
        [python, "-m", "benchmarks.engine.pfl_run", str(job_file), str(figures_file)], check=True
    )
    figures = json.loads(figures_file.read_text(encoding="utf-8"))
    examples = CLIENTS * workload.steps * BATCH
    return Measurement(
        target_positions=examples * len(figures["seconds"]),
        seconds=sum(figures["seconds"]),
        client_rounds=CLIENTS * len(figures["seconds"]),
        start_seconds=figures["start_seconds"],
        samples=tuple(examples / seconds for seconds in figures["seconds"]),
        notes=(f"pfl {figures['version']}: user-level central DP, {CLIENTS} clients a round",),
    )

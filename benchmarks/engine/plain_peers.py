"""Peers B and C: one process and no federation, with Opacus and without privacy."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.engine.measurement import Measurement, Task
from benchmarks.engine.peer_model import SiteExamples, build_model
from benchmarks.engine.workloads import WORKLOADS

STEPS = {False: 3, True: 2}  # by `quick`
WARM_UP_EXAMPLES = 4


def measure(task: Task, *, private: bool) -> Measurement:
    """Times steps of 16 examples on the first site's data."""
    from benchmarks.engine.peer_training import train_plain, train_private

    begun = time.monotonic()
    torch.set_num_threads(task.threads)
    workload = WORKLOADS[task.workload]
    data = Path(task.data)
    model = build_model(data, workload.lora_layers, task.device)
    loaded = time.monotonic()
    dataset = SiteExamples(data, workload.sites, 0)
    train = train_private if private else train_plain
    train(model, dataset, 1, task.device, WARM_UP_EXAMPLES)
    started = time.monotonic()
    trained = train(model, dataset, STEPS[task.quick], task.device)
    return Measurement(
        target_positions=trained.examples,
        seconds=sum(seconds for _, seconds in trained.steps),
        client_rounds=1,
        start_seconds=started - begun,
        samples=tuple(examples / seconds for examples, seconds in trained.steps),
        notes=("one process, dropout 0.1" + (", Opacus" if private else ", no privacy"),),
        extra={"load_seconds": loaded - begun},
    )

"""Peers A and A2: Flower's simulation runtime on Ray, PEFT and Opacus, the usual way.

A builds its model in every client call, as Flower's examples do; A2 keeps one per worker.
The two apps are module-level, and Ray's workers import them from here.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from benchmarks.engine.measurement import Measurement, Task
from benchmarks.engine.peer_model import (
    SiteExamples,
    TwoTower,
    adapter_of,
    build_model,
    load_adapter,
)
from benchmarks.engine.workloads import BATCH, WORKLOADS, Workload, clients_of

THREADS_OF_A_CLIENT = 1
WARM_UP_EXAMPLES = 4

client_app = ClientApp()
cached_model = lru_cache(maxsize=1)(build_model)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """A client's local training: model, private steps, adapter back."""
    from benchmarks.engine.peer_training import train_private

    config: Any = message.content["config"]
    data, device = Path(config["data"]), str(config["device"])
    torch.set_num_threads(THREADS_OF_A_CLIENT)
    build = cached_model if config["cached"] else build_model
    model: TwoTower = build(data, int(config["lora_layers"]), device)
    received: Any = message.content["arrays"]
    load_adapter(model, received.to_torch_state_dict())
    sites = int(context.node_config["num-partitions"])
    site = int(context.node_config["partition-id"])
    dataset = SiteExamples(data, sites, site)
    is_warm_up = int(config["server-round"]) == 1
    trained = train_private(
        model,
        dataset,
        steps=1 if is_warm_up else int(config["steps"]),
        device=device,
        batch=WARM_UP_EXAMPLES if is_warm_up else BATCH,
    )
    metrics = MetricRecord({"num-examples": max(trained.examples, 1), "examples": trained.examples})
    content = RecordDict({"arrays": ArrayRecord(adapter_of(model)), "metrics": metrics})
    return Message(content=content, reply_to=message)


class TimedFedAvg(FedAvg):
    """FedAvg over adapters that notes when rounds start and end, and what was trained on."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.started: list[float] = []
        self.ended: list[float] = []
        self.examples: list[int] = []
        self.replies: list[int] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.started.append(time.monotonic())
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        kept = list(replies)
        result = super().aggregate_train(server_round, kept)
        self.ended.append(time.monotonic())
        good: list[Any] = [reply.content["metrics"] for reply in kept if reply.has_content()]
        self.examples.append(sum(int(metrics["examples"]) for metrics in good))
        self.replies.append(len(good))
        return result


def measure(task: Task, *, cached: bool) -> Measurement:
    """Runs the simulation of `task`; the first of its rounds is the warm-up."""
    from flwr.simulation import run_simulation

    begun = time.monotonic()
    workload = WORKLOADS[task.workload]
    clients = clients_of(workload, task.quick)
    strategy = TimedFedAvg(
        fraction_train=clients / workload.sites,
        fraction_evaluate=0.0,
        min_train_nodes=clients,
        min_available_nodes=workload.sites,
    )
    # Ray's workers take the environment of this process.
    os.environ["OMP_NUM_THREADS"] = str(THREADS_OF_A_CLIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_simulation(
            server_app=_server_app(task, workload, strategy, cached=cached),
            client_app=client_app,
            num_supernodes=workload.sites,
            backend_config=_backend(task),
        )
    return _measurement(strategy, clients, begun, cached=cached)


def _server_app(task: Task, workload: Workload, strategy: FedAvg, *, cached: bool) -> ServerApp:
    server_app = ServerApp()
    config: dict[str, int | float | str | bool] = {
        "data": task.data,
        "device": task.device,
        "cached": cached,
        "lora_layers": workload.lora_layers,
        "steps": workload.steps,
    }

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        model = build_model(Path(task.data), workload.lora_layers, "cpu")
        strategy.start(
            grid,
            initial_arrays=ArrayRecord(adapter_of(model)),
            num_rounds=1 + workload.rounds,
            train_config=ConfigRecord(dict(config)),
        )

    return server_app


def _backend(task: Task) -> dict[str, Any]:
    """One core for a client, and an equal part of the GPU if there is one."""
    gpus = 0.0 if task.device == "cpu" else 1.0
    return {
        "init_args": {"num_cpus": task.threads, "num_gpus": int(gpus)},
        "client_resources": {"num_cpus": THREADS_OF_A_CLIENT, "num_gpus": gpus / task.threads},
    }


def _measurement(strategy: TimedFedAvg, clients: int, begun: float, *, cached: bool) -> Measurement:
    expected = 1 + len(strategy.started[1:])
    if len(strategy.ended) != expected or any(n != clients for n in strategy.replies):
        raise RuntimeError(f"clients failed: {strategy.replies} of {clients} replied in a round")
    seconds = [e - s for s, e in zip(strategy.started[1:], strategy.ended[1:], strict=True)]
    examples = strategy.examples[1:]
    model = "kept by each worker" if cached else "built in every client call"
    return Measurement(
        target_positions=sum(examples),
        seconds=sum(seconds),
        client_rounds=clients * len(seconds),
        start_seconds=strategy.started[1] - begun,
        samples=tuple(n / s for n, s in zip(examples, seconds, strict=True)),
        notes=(f"model {model}; {clients} clients a round, one core each; dropout 0.1",),
    )

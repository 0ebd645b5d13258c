"""What each worker computes with: its share of the threads, and a device of its own."""

from __future__ import annotations

import torch
from flwr.app import UserConfig

from common.config import RunConfig

DEVICE_KEY, THREADS_KEY = "engine.device", "engine.threads"


def worker_settings(config: RunConfig, worker: int, workers: int) -> UserConfig:
    """The flat run config that the nodes of one worker see.

    Only the engine's keys differ from the run's; they are no part of its hash.

    Args:
        config: the run's configuration.
        worker: from 0.
        workers: how many there are.
    """
    flat = config.to_flat()
    threads = config.engine.threads or torch.get_num_threads()
    flat[THREADS_KEY] = max(1, threads // workers)
    flat[DEVICE_KEY] = worker_device(config.engine.device, worker, torch.cuda.device_count())
    return flat


def worker_device(asked: str, worker: int, devices: int) -> str:
    """The device of one worker.

    Args:
        asked: `engine.device` of the run; ``auto`` and ``cuda`` spread the workers over the
            CUDA devices, any other is every worker's.
        worker: from 0.
        devices: CUDA devices of this machine.
    """
    return f"cuda:{worker % devices}" if devices and asked in ("auto", "cuda") else asked

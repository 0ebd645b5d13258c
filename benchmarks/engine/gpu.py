"""What a GPU is called, and how busy it is, where nvidia-ml-py is installed."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch

POLL_S = 0.5


@dataclass
class Utilisation:
    """Per cents of utilisation, polled."""

    values: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        """Mean per cent over the subject's life, its start included; None if never polled."""
        return statistics.mean(self.values) if self.values else None

    @classmethod
    @contextmanager
    def of(cls, device: str) -> Iterator[Utilisation]:
        """Polls `device` until the block ends; nothing where that cannot be done."""
        found = cls()
        if device == "cpu" or find_spec("pynvml") is None:
            yield found
            return
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(torch.device(device).index or 0)
        stop = threading.Event()

        def poll() -> None:
            while not stop.wait(POLL_S):
                found.values.append(float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu))

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            stop.set()
            thread.join()
            pynvml.nvmlShutdown()


def device_name(device: str) -> str | None:
    """The GPU's name; None for the CPU."""
    return None if device == "cpu" else torch.cuda.get_device_name(device)

from __future__ import annotations

import pytest
import torch

from common.config import RunConfig
from common.config_loading import load_config
from simulations.workers.settings import worker_device, worker_settings


@pytest.mark.parametrize(
    ("asked", "devices", "found"),
    [
        ("auto", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda", 4, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:1", 4, ["cuda:1"] * 3),
        ("cpu", 4, ["cpu"] * 3),
        ("auto", 0, ["auto"] * 3),
        ("cuda", 0, ["cuda"] * 3),  # the device's own check says what is wrong with it
    ],
)
def test_workers_are_spread_over_the_devices_that_were_asked_for(
    asked: str, devices: int, found: list[str]
) -> None:
    assert [worker_device(asked, worker, devices) for worker in range(3)] == found


@pytest.mark.parametrize(("threads", "workers", "each"), [(8, 2, 4), (7, 2, 3), (1, 3, 1)])
def test_threads_are_shared_and_the_hash_stays(threads: int, workers: int, each: int) -> None:
    config = RunConfig()
    config = config.model_copy(
        update={"engine": config.engine.model_copy(update={"threads": threads})}
    )
    found = load_config(flat=worker_settings(config, workers - 1, workers))
    assert found.engine.threads == each
    assert found.sha256() == config.sha256()
    assert {**found.model_dump(), "engine": None} == {**config.model_dump(), "engine": None}


def test_without_a_number_of_threads_those_of_torch_are_shared() -> None:
    found = worker_settings(RunConfig(), 0, 1)
    assert found["engine.threads"] == torch.get_num_threads()

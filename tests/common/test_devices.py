"""Which device a name stands for, and how much memory is free there."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from common.config import EngineConfig, RunConfig
from common.config_loading import load_config
from common.devices import _left_in_cgroups, device_label, free_memory_bytes, resolve_device
from common.errors import ConfigError, DeviceError


def cuda(monkeypatch: pytest.MonkeyPatch, count: int, current: int = 0) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)


def test_names_on_a_machine_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda(monkeypatch, 0)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=f"{name} needs.*set engine.device=auto") as caught:
            resolve_device(name)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2


def test_names_on_a_machine_with_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda(monkeypatch, 2, current=1)
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 1)
    assert resolve_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(DeviceError, match="finds 2 CUDA devices.*cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "cpu "])
def test_another_name_is_a_fault(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(flat={"engine.device": name})
    (fault,) = caught.value.faults
    assert fault.startswith("engine.device must be auto, cpu, cuda or cuda:N, got")
    with pytest.raises(DeviceError, match="engine.device must be"):
        resolve_device(name)


def test_device_and_precision_do_not_define_the_run() -> None:
    engine = EngineConfig(device="cuda:3", precision="bf16")
    assert RunConfig(engine=engine).sha256() == RunConfig().sha256()


def test_a_cpu_has_no_more_free_memory_than_the_machine() -> None:
    assert 0 < free_memory_bytes(torch.device("cpu")) <= psutil.virtual_memory().total
    assert device_label(torch.device("cpu")) == "cpu"


def group(folder: Path, limit: tuple[str, str], usage: tuple[str, str], stat: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (limit, usage, ("memory.stat", stat)):
        (folder / name).write_text(value + "\n")


def test_limits_of_all_control_groups_count(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("0::/outer/inner\n5:cpu:/outer\n4:memory:/old\n")
    group(root / "outer", ("memory.max", "1000"), ("memory.current", "900"), "inactive_file 50")
    group(root / "outer/inner", ("memory.max", "max"), ("memory.current", "1"), "anon 1")
    old = ("memory.limit_in_bytes", "700"), ("memory.usage_in_bytes", "800")
    group(root / "memory/old", *old, "total_inactive_file 3")
    assert list(_left_in_cgroups(root, own)) == [150, 0]
    assert list(_left_in_cgroups(root, tmp_path / "none")) == []


def test_the_tightest_limit_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.devices._left_in_cgroups", lambda: iter([5_000, 70]))
    assert free_memory_bytes(torch.device("cpu")) == 70

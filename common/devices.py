"""Where a run computes: the device that a name stands for, and the memory that is free there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from common.errors import DeviceError

_NAME = re.compile(r"auto|cpu|cuda(?::(?P<index>[0-9]+))?")


def resolve_device(name: str) -> torch.device:
    """The device called `name` in ``engine.device``.

    Args:
        name: ``auto`` (a CUDA device where there is one, else the CPU), ``cpu``, ``cuda``
            or ``cuda:N``.

    Returns:
        The device; a CUDA device always with its number.

    Raises:
        DeviceError: `name` is none of these, or this machine has no such device.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DeviceError(
            f"engine.device must be auto, cpu, cuda or cuda:N, got {name!r}; set engine.device=auto"
        )
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError(
            f"engine.device={name} needs a CUDA device, and PyTorch {torch.__version__} finds none "
            "here; set engine.device=auto or cpu, or install a build of PyTorch for this GPU"
        )
    number = match["index"]
    index = torch.cuda.current_device() if number is None else int(number)
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceError(
            f"engine.device={name}: PyTorch finds {count} CUDA devices here, numbered from 0; "
            f"set engine.device=cuda:{count - 1}, or a smaller number"
        )
    return torch.device("cuda", index)


def device_label(device: torch.device) -> str:
    """What a record calls `device`: ``cpu``, or a GPU's number and model."""
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def free_memory_bytes(device: torch.device) -> int:
    """Memory that new tensors on `device` may take, in bytes.

    For a CPU it is the smaller of what the machine has available and what is left below the
    limits of the process's control groups (a container's limit is one).
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([int(psutil.virtual_memory().available), *_left_in_cgroups()])


def _left_in_cgroups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """What is left below the limit of every control group that this process is in (v1, v2)."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # no control groups on this system
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            files, top = ("memory.max", "memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            files, top = names, root / "memory"
        else:
            continue
        group = top / path.strip("/")
        while group.is_relative_to(top):
            yield from _left_below(group, *files)
            group = group.parent


def _left_below(group: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    """What is left in this one group, if it has a limit."""
    try:
        bound, used, rows = (
            (group / name).read_text(encoding="utf-8") for name in (limit, usage, "memory.stat")
        )
    except OSError:  # seen from inside a container, the groups above it are not there
        return
    if bound.strip() != "max":
        stat = dict(row.split() for row in rows.splitlines())
        # The page cache of files that nobody reads makes room by itself.
        yield max(0, int(bound) - int(used) + int(stat.get(reclaimable, 0)))

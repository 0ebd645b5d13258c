"""The adapter: everything that is trained and sent, as named float32 arrays.

Names are ``lora.<PEFT key>`` and ``head.…`` / ``score.…``; only trainable tensors appear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from common.errors import MessageError
from common.tensor_files import tensors_to_bytes

Adapter = dict[str, npt.NDArray[np.float32]]

_PEFT_PREFIX = "item_tower.peft."
_PEFT_ADAPTER = ".default.weight"


def wire_name(parameter_name: str) -> str:
    """The adapter's name of a recommender parameter (PEFT's own key for LoRA factors)."""
    if parameter_name.startswith(_PEFT_PREFIX):
        return "lora." + parameter_name.removeprefix(_PEFT_PREFIX).replace(_PEFT_ADAPTER, ".weight")
    return parameter_name


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by adapter name, sorted."""
    named = {wire_name(n): p for n, p in model.named_parameters() if p.requires_grad}
    return dict(sorted(named.items()))


def adapter_of(model: nn.Module) -> Adapter:
    """A copy of the model's trainable tensors."""
    return {
        name: parameter.detach().cpu().numpy().astype(np.float32, copy=True)
        for name, parameter in trainable_parameters(model).items()
    }


@torch.no_grad()
def load_adapter(model: nn.Module, adapter: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Writes `adapter` into the model's trainable tensors.

    Raises:
        MessageError: Names or shapes differ from the model's.
    """
    parameters = trainable_parameters(model)
    check_same_shapes(
        {name: tuple(p.shape) for name, p in parameters.items()},
        {name: array.shape for name, array in adapter.items()},
    )
    for name, parameter in parameters.items():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(adapter[name])))


def shapes(adapter: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, tuple[int, ...]]:
    """Tensor shapes by name."""
    return {name: tuple(array.shape) for name, array in adapter.items()}


def check_same_shapes(
    expected: Mapping[str, tuple[int, ...]], got: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises `MessageError` unless both have the same names and shapes."""
    missing, surplus = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    if missing or surplus:
        raise MessageError(
            f"adapter has missing tensors {missing[:3]} and surplus tensors {surplus[:3]}; "
            "server and site must run the same model section of the configuration"
        )
    for name, shape in expected.items():
        if tuple(got[name]) != tuple(shape):
            raise MessageError(
                f"adapter tensor {name} has shape {tuple(got[name])}, expected {tuple(shape)}; "
                "server and site must run the same model section of the configuration"
            )


def adapter_difference(new: Adapter, old: Adapter) -> Adapter:
    """``new − old``, tensor by tensor."""
    check_same_shapes(shapes(old), shapes(new))
    return {name: new[name] - old[name] for name in sorted(new)}


def add_update(adapter: Adapter, update: Adapter) -> Adapter:
    """``adapter + update``, tensor by tensor."""
    check_same_shapes(shapes(adapter), shapes(update))
    return {name: adapter[name] + update[name] for name in sorted(adapter)}


def all_finite(adapter: Adapter) -> bool:
    """Whether every number is finite."""
    return all(bool(np.isfinite(array).all()) for array in adapter.values())


def adapter_bytes(adapter: Adapter) -> bytes:
    """Canonical bytes: safetensors, which orders tensors by name within a dtype."""
    return tensors_to_bytes({n: np.asarray(a, dtype="<f4") for n, a in adapter.items()}, {})


def adapter_sha256(adapter: Adapter) -> str:
    """SHA-256 of `adapter_bytes`."""
    return hashlib.sha256(adapter_bytes(adapter)).hexdigest()

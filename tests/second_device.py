"""A second device without a GPU: it computes on the CPU, and refuses to mix with the CPU.

Tensors of the device ``meta`` hold real numbers while `second_device` is open. An operation
that gets tensors of both devices fails as it would between a CPU and a GPU (and, stricter
than there, also an index on the wrong device). Only copies between the two, and a scalar
without a dimension beside tensors of the second device, are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

SECOND = torch.device("meta")
_COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class MixedDevices(RuntimeError):
    """An operation got tensors of both devices."""


class Elsewhere(torch.Tensor):
    """A tensor of the second device; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        wrapper = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=SECOND,
        )
        wrapper.inner = inner
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Sees operations that make tensors on the second device, or move them to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    there = [t for t in tensors if isinstance(t, Elsewhere)]
    here = [t for t in tensors if not isinstance(t, Elsewhere)]
    asked = kwargs.get("device")
    asked = None if asked is None else torch.device(asked)
    if func not in _COPIES and there and any(t.dim() > 0 for t in here):
        raise MixedDevices(
            f"{func} got tensors of both devices: {[tuple(t.shape) for t in tensors]}"
        )
    inner_kwargs = dict(kwargs) if asked is None else kwargs | {"device": torch.device("cpu")}
    unwrap = lambda t: t.inner if isinstance(t, Elsewhere) else t  # noqa: E731
    out = func(*tree_map(unwrap, args), **tree_map(unwrap, inner_kwargs))
    to_second = asked == SECOND if asked is not None else bool(there)
    if func is torch.ops.aten.copy_.default:
        to_second = isinstance(args[0], Elsewhere)
    if not to_second:
        if func is torch.ops.aten._to_copy.default and there:
            return out.clone()
        return out
    wrapped = tree_map(lambda t: Elsewhere(t) if isinstance(t, torch.Tensor) else t, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Opens the second device."""
    with _Everywhere():
        yield SECOND

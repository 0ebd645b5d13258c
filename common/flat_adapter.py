"""The adapter as one vector, tensors in the order of their names: what a sum is taken over."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def flatten(tensors: Mapping[str, npt.NDArray[np.floating]]) -> Floats:
    """All numbers of `tensors` as float64 ``[d]``, by name and then in C order."""
    parts = [np.asarray(tensors[name], dtype=np.float64).ravel() for name in sorted(tensors)]
    return np.concatenate([np.empty(0), *parts])


def unflatten(vector: Floats, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """The tensors of `flatten`, float64, from their `shapes` by name.

    Raises:
        ValueError: `vector` does not hold just as many numbers.
    """
    if vector.shape != (size(shapes),):
        raise ValueError(f"{size(shapes)} numbers are expected, got shape {list(vector.shape)}")
    tensors, at = {}, 0
    for name in sorted(shapes):
        count = math.prod(shapes[name])
        tensors[name] = vector[at : at + count].reshape(shapes[name])
        at += count
    return tensors


def size(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """d, how many numbers tensors of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes.values())

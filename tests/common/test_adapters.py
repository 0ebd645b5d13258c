"""Adapter arithmetic, canonical bytes and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from common.adapters import (
    adapter_bytes,
    adapter_difference,
    adapter_of,
    adapter_sha256,
    add_update,
    all_finite,
    load_adapter,
)
from common.errors import MessageError
from common.tensor_files import tensors_from_bytes


def adapter(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "head.b": generator.normal(size=(2, 3)).astype(np.float32),
        "head.a": generator.normal(size=4).astype(np.float32),
    }


def test_difference_and_update_are_inverse() -> None:
    old, new = adapter(0), adapter(1)
    back = add_update(old, adapter_difference(new, old))
    for name in new:
        np.testing.assert_allclose(back[name], new[name], atol=1e-6)


def test_bytes_are_canonical_and_lossless() -> None:
    first = adapter(3)
    turned = {name: first[name] for name in sorted(first)}
    assert adapter_bytes(first) == adapter_bytes(turned)
    again, _ = tensors_from_bytes(adapter_bytes(first))
    assert all(np.array_equal(again[name], first[name]) for name in first)
    changed = {**first, "head.a": first["head.a"] + np.float32(1e-3)}
    assert adapter_sha256(changed) != adapter_sha256(first)


@pytest.mark.parametrize(
    "broken",
    [
        {"head.a": np.zeros(4, np.float32)},
        {**adapter(0), "head.c": np.zeros(1, np.float32)},
        {**adapter(0), "head.a": np.zeros(5, np.float32)},
    ],
    ids=["missing", "surplus", "shape"],
)
def test_other_tensors_are_refused(broken: dict[str, np.ndarray]) -> None:
    with pytest.raises(MessageError, match="same model section"):
        add_update(adapter(0), broken)


def test_non_finite_is_seen() -> None:
    assert all_finite(adapter(0))
    assert not all_finite({"a": np.array([1.0, np.nan], np.float32)})


def test_only_trainable_tensors_travel() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    assert sorted(adapter_of(model)) == ["1.bias", "1.weight"]
    load_adapter(model, {"1.bias": np.ones(1, np.float32), "1.weight": np.ones((1, 2), np.float32)})
    assert torch.equal(model[1].weight, torch.ones(1, 2))
    with pytest.raises(MessageError):
        load_adapter(model, {"1.bias": np.ones(1, np.float32)})

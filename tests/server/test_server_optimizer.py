from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from common.adapters import Adapter
from common.config import FederationConfig
from common.errors import FederationError, MessageError
from server.server_optimizer import ADAM_BETA_2, ADAM_TAU, OptimizerState, server_step


def federation(kind: str, lr: float = 0.5, momentum: float = 0.9) -> FederationConfig:
    settings: Any = {"server_optimizer": kind, "server_lr": lr, "server_momentum": momentum}
    return FederationConfig(**settings)


def one(*values: float) -> Adapter:
    return {"w": np.array(values, dtype=np.float32)}


def run(kind: str, updates: list[Adapter], **settings: float) -> tuple[Adapter, OptimizerState]:
    adapter, state = one(1.0, -2.0), OptimizerState()
    for update in updates:
        adapter, state = server_step(adapter, update, state, federation(kind, **settings))
    return adapter, state


def test_fedavg_by_hand() -> None:
    adapter, state = run("fedavg", [one(0.5, 1.0), one(0.25, 0.0)], lr=1.0)
    np.testing.assert_array_equal(adapter["w"], np.array([1.75, -1.0], np.float32))
    assert (state.steps, state.first, state.second) == (2, {}, {})


def test_fedavgm_by_hand() -> None:
    # m1 = 2, x1 = 1 + .5(2 + .5·2) = 2.5;  m2 = .5·2 + 4 = 5, x2 = 2.5 + .5(4 + .5·5) = 5.75
    adapter, state = run("fedavgm", [one(2.0, 0.0), one(4.0, 0.0)], lr=0.5, momentum=0.5)
    np.testing.assert_array_equal(adapter["w"], np.array([5.75, -2.0], np.float32))
    np.testing.assert_array_equal(state.first["w"], [5.0, 0.0])


def test_fedavgm_is_nesterov_as_in_torch() -> None:
    updates = [one(0.3, -0.7), one(-0.1, 0.4), one(0.9, 0.2)]
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([weight], lr=0.25, momentum=0.9, nesterov=True)
    for update in updates:
        weight.grad = -torch.from_numpy(update["w"].astype(np.float64))
        sgd.step()
    adapter, _ = run("fedavgm", updates, lr=0.25, momentum=0.9)
    np.testing.assert_allclose(adapter["w"], weight.detach().numpy(), rtol=1e-6)


def test_fedadam_by_hand() -> None:
    # step 1: bias correction makes m̂ = Δ and v̂ = Δ², so x moves by η·Δ/(|Δ| + τ)
    adapter, state = run("fedadam", [one(3.0, -4.0)], lr=0.5)
    expected = [1 + 0.5 * 3 / (3 + ADAM_TAU), -2 - 0.5 * 4 / (4 + ADAM_TAU)]
    np.testing.assert_allclose(adapter["w"], expected, rtol=1e-7)
    np.testing.assert_allclose(state.first["w"], [0.3, -0.4])
    np.testing.assert_allclose(state.second["w"], [0.09, 0.16])
    # step 2, Δ = 1: m = .27 + .1, v = .99·.09 + .01
    second, _ = server_step(adapter, one(1.0, 0.0), state, federation("fedadam", 0.5))
    m_hat, v_hat = 0.37 / (1 - 0.9**2), (0.99 * 0.09 + 0.01) / (1 - 0.99**2)
    step = 0.5 * m_hat / (math.sqrt(v_hat) + ADAM_TAU)
    assert second["w"][0] == pytest.approx(adapter["w"][0] + step, rel=1e-6)


def test_fedadam_is_adam_as_in_torch() -> None:
    updates = [one(0.3, -0.7), one(-0.1, 0.4), one(0.9, 0.2)]
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weight], lr=0.1, betas=(0.8, ADAM_BETA_2), eps=ADAM_TAU)
    for update in updates:
        weight.grad = -torch.from_numpy(update["w"].astype(np.float64))
        adam.step()
    adapter, _ = run("fedadam", updates, lr=0.1, momentum=0.8)
    np.testing.assert_allclose(adapter["w"], weight.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["fedavg", "fedavgm", "fedadam"])
def test_a_zero_update_at_the_start_moves_nothing(kind: str) -> None:
    adapter, state = run(kind, [one(0.0, 0.0)])
    np.testing.assert_array_equal(adapter["w"], one(1.0, -2.0)["w"])
    assert state.steps == 1


@pytest.mark.parametrize("kind", ["fedavg", "fedavgm", "fedadam"])
def test_a_step_leaves_its_arguments_as_they_are(kind: str) -> None:
    adapter, update = one(1.0, -2.0), one(0.5, 0.5)
    _, state = server_step(adapter, update, OptimizerState(), federation(kind))
    before = {name: array.copy() for name, array in state.first.items()}
    server_step(adapter, update, state, federation(kind))
    np.testing.assert_array_equal(adapter["w"], one(1.0, -2.0)["w"])
    np.testing.assert_array_equal(update["w"], one(0.5, 0.5)["w"])
    for name, array in before.items():
        np.testing.assert_array_equal(state.first[name], array)


def test_an_overflow_is_an_error_with_its_remedy() -> None:
    with pytest.raises(FederationError, match=r"lower federation\.server_lr"):
        run("fedavg", [one(3e38, 0.0)], lr=100.0)


def test_other_tensors_are_refused() -> None:
    with pytest.raises(MessageError):
        server_step(one(1.0), one(1.0, 2.0), OptimizerState(), federation("fedavg"))

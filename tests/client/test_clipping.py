"""No unit is longer than C after it was scaled, by either rule and whatever it holds."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.clipping import ClipRule, clip_factors
from client.private_step import PrivateStep
from client.unit_updates import sum_of_clipped_updates
from common.randomness import secure_source

RULES = get_args(ClipRule)


@given(
    norm=st.floats(min_value=0, max_value=1e300),
    bound=st.floats(min_value=1e-6, max_value=1e6),
    rule=st.sampled_from(RULES),
)
def test_a_scaled_unit_is_within_the_bound(norm: float, bound: float, rule: ClipRule) -> None:
    (factor,) = clip_factors(torch.tensor([norm], dtype=torch.float64), bound, rule).tolist()
    assert factor >= 0
    assert norm * factor <= bound
    if rule == "flat" and norm <= bound:
        assert factor == 1.0
    if rule == "auto_s" and norm < 1e100:
        assert norm * factor == pytest.approx(bound * norm / (norm + 0.01), rel=2e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_what_is_not_finite_counts_for_nothing(rule: ClipRule, norm: float) -> None:
    assert clip_factors(torch.tensor([norm], dtype=torch.float64), 1.0, rule).tolist() == [0.0]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_auto_s_through_the_private_step(scale: float) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1, bias=False)
    rows = torch.randn(4, 3) * scale
    norms = rows.double().norm(dim=1)
    expected = (rows.double() * (2.0 / (norms + 0.01))[:, None]).sum(0)
    with PrivateStep(
        model,
        torch.optim.SGD(model.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=2.0,
        expected_units=1.0,
        source=secure_source(),
        clip_rule="auto_s",
    ) as step:
        model.train()
        total = step.clipped_sum(list(rows), lambda batch: model(torch.stack(list(batch)))[:, 0])
    np.testing.assert_allclose(total["weight"][0].numpy(), expected.numpy(), rtol=1e-5)


def test_auto_s_of_whole_updates() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))

    def train(move: tuple[float, float]) -> None:
        with torch.no_grad():
            parameter.add_(torch.tensor(move))

    total = sum_of_clipped_updates({"p": parameter}, [(3.0, 4.0), (0.0, 0.0)], train, 1.0, "auto_s")
    np.testing.assert_allclose(total["p"].numpy(), np.array([3.0, 4.0]) / 5.01, rtol=1e-5)
    assert parameter.detach().abs().max() == 0

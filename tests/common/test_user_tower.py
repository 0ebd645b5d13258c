"""Lag profiles look at the past only; heads score as their formulas say."""

from __future__ import annotations

import pytest
import torch

from common.config import ModelConfig
from common.user_tower import BilinearHead, MultiLagHead, build_head, lag_weights


def test_lag_weights_are_normalised_and_causal() -> None:
    mask = torch.tensor([[True, True, True, False]])
    weights = lag_weights(mask, torch.tensor([[0, 1, 3]]), torch.tensor([1.0, 50.0]))
    assert weights.shape == (1, 3, 2, 4)
    assert weights[0, 0].abs().sum() == 0  # no history before the first place
    torch.testing.assert_close(weights[0, 1, 0], torch.tensor([1.0, 0.0, 0.0, 0.0]))
    # ages 2, 1, 0 at half-life 1: 1/4, 1/2, 1 over 7/4
    torch.testing.assert_close(weights[0, 2, 0], torch.tensor([1 / 7, 2 / 7, 4 / 7, 0.0]))


@pytest.mark.parametrize("head", ["multi_lag", "bilinear"])
def test_a_unit_is_scored_alone(head: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(head=head, head_dim=6, head_hidden=8)
    model = build_head(10, config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    history, candidates = torch.randn(3, 5, 10), torch.randn(3, 7, 10)
    weights = lag_weights(
        torch.ones(3, 5, dtype=torch.bool), torch.tensor([[2, 4]] * 3), model.half_lives
    )
    together = model(history, weights, candidates)
    assert together.shape == (3, 2, 7)
    for unit in range(3):
        alone = model(
            history[unit : unit + 1], weights[unit : unit + 1], candidates[unit : unit + 1]
        )
        torch.testing.assert_close(alone[0], together[unit])


def test_the_bilinear_head_starts_at_zero_and_matches_its_formula() -> None:
    config = ModelConfig(head="bilinear", head_dim=4)
    model = BilinearHead(9, config)
    history, candidates = torch.randn(1, 3, 9), torch.randn(1, 2, 9)
    weights = lag_weights(torch.ones(1, 3, dtype=torch.bool), torch.tensor([[3]]), model.half_lives)
    assert model(history, weights, candidates).abs().max() == 0
    with torch.no_grad():
        model.mix.weight.normal_()
        model.text_bias.weight.normal_()
    means = (weights[0, 0] @ history[0, :, :4]).flatten()
    expected = candidates[0, :, :4] @ (model.mix.weight @ means) / 2.0
    expected = expected + candidates[0, :, :4] @ model.text_bias.weight[0]
    torch.testing.assert_close(model(history, weights, candidates)[0, 0], expected)


def test_hidden_zero_makes_linear_towers() -> None:
    model = MultiLagHead(10, ModelConfig(head_dim=4, head_hidden=0))
    assert [type(m).__name__ for m in model.candidate] == ["Linear"]

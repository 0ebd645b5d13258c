"""Lag profiles look at the past only; heads score as their formulas say."""

from __future__ import annotations

import pytest
import torch

from common.bilinear_head import BilinearHead, ItemRows
from common.config import ModelConfig
from common.lag_profiles import HALF_LIVES, lag_weights
from common.user_tower import MultiLagHead, build_head


def test_lag_weights_are_normalised_and_causal() -> None:
    mask = torch.tensor([[True, True, True, False]])
    weights = lag_weights(mask, torch.tensor([[0, 1, 3]]), torch.tensor([1.0, 50.0]))
    assert weights.shape == (1, 3, 2, 4)
    assert weights[0, 0].abs().sum() == 0  # no history before the first place
    torch.testing.assert_close(weights[0, 1, 0], torch.tensor([1.0, 0.0, 0.0, 0.0]))
    # ages 2, 1, 0 at half-life 1: 1/4, 1/2, 1 over 7/4
    torch.testing.assert_close(weights[0, 2, 0], torch.tensor([1 / 7, 2 / 7, 4 / 7, 0.0]))


def rows(vectors: torch.Tensor) -> ItemRows:
    """Rows of these vectors; item i is the i-th of its batch row."""
    return ItemRows(vectors, torch.arange(vectors.shape[1]).expand(vectors.shape[:2]))


def recent(positions: list[list[int]], length: int) -> torch.Tensor:
    """Lag weights over full histories of `length` items."""
    mask = torch.ones(len(positions), length, dtype=torch.bool)
    return lag_weights(mask, torch.tensor(positions), torch.tensor(HALF_LIVES))


def moved(model: MultiLagHead | BilinearHead) -> MultiLagHead | BilinearHead:
    """The head away from its start."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(
    ("head", "matrix", "items"),
    [("multi_lag", "per_lag", 0), ("bilinear", "per_lag", 0), ("bilinear", "symmetric", 3)],
)
def test_a_unit_is_scored_alone(head: str, matrix: str, items: int) -> None:
    torch.manual_seed(0)
    config = ModelConfig(head=head, head_dim=6, head_hidden=8, head_matrix=matrix, head_items=items)
    model = moved(build_head(10, config))
    model.set_item_prior(torch.arange(7.0))
    history, candidates = torch.randn(3, 5, 10), torch.randn(3, 7, 10)
    weights = recent([[2, 4]] * 3, 5)
    together = model(rows(history), weights, rows(candidates))
    assert together.shape == (3, 2, 7)
    for unit in range(3):
        one = slice(unit, unit + 1)
        alone = model(rows(history[one]), weights[one], rows(candidates[one]))
        torch.testing.assert_close(alone[0], together[unit])


def test_the_bilinear_head_starts_at_zero_and_matches_its_formula() -> None:
    model = BilinearHead(9, ModelConfig(head="bilinear", head_dim=4))
    history, candidates = torch.randn(1, 3, 9), torch.randn(1, 2, 9)
    weights = recent([[3]], 3)
    assert model(rows(history), weights, rows(candidates)).abs().max() == 0
    moved(model)
    means = (weights[0, 0] @ history[0, :, :4]).flatten()
    expected = candidates[0, :, :4] @ (model.mix.weight @ means) / 2.0
    expected = expected + candidates[0, :, :4] @ model.text_bias.weight[0]
    torch.testing.assert_close(model(rows(history), weights, rows(candidates))[0, 0], expected)


@pytest.mark.parametrize("matrix", ["per_lag", "symmetric"])
def test_item_codes_match_their_formula(matrix: str) -> None:
    torch.manual_seed(1)
    config = ModelConfig(head_dim=4, head_items=2, head_items_scale=3.0, head_matrix=matrix)
    model = BilinearHead(9, config)
    model.set_item_prior(torch.tensor([0.1, 0.9, 0.2, 0.5]))  # codes for items 1 and 3
    history, candidates, weights = torch.randn(1, 3, 9), torch.randn(1, 4, 9), recent([[3]], 3)
    seen = ItemRows(history, torch.tensor([[3, 0, 1]]))
    assert model(seen, weights, rows(candidates)).abs().max() == 0
    moved(model)
    codes = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 0.0], [0.0, 6.0]])  # 3 · √4
    past = torch.cat([history[0, :, :4], codes[[3, 0, 1]]], dim=1)
    item = torch.cat([candidates[0, :, :4], codes], dim=1)
    means = weights[0, 0] @ past
    if matrix == "symmetric":
        mean = torch.stack([means[1], means[2], means[3]]).mean(0)
        means = 2.0 * mean / mean.norm()
    mix = model.mix.weight + model.mix.weight.T if matrix == "symmetric" else model.mix.weight
    expected = item @ (mix @ means.flatten()) / 2.0
    expected = expected + candidates[0, :, :4] @ model.text_bias.weight[0]
    torch.testing.assert_close(model(seen, weights, rows(candidates))[0, 0], expected)


def test_codes_go_to_the_most_popular_items_and_ties_to_the_first() -> None:
    model = BilinearHead(9, ModelConfig(head_dim=4, head_items=3))
    model.set_item_prior(torch.tensor([0.0, 2.0, 1.0, 2.0, 1.0]))
    assert model.places.tolist() == [3, 0, 2, 1, 3]  # 3: no code
    model.set_item_prior(torch.zeros(5))
    assert model.places.tolist() == [0, 1, 2, 3, 3]
    model.set_item_prior(torch.tensor([1.0, 2.0]))  # fewer items than codes
    assert model.places.tolist() == [1, 0]


def test_without_any_history_the_codes_add_nothing() -> None:
    model = BilinearHead(9, ModelConfig(head_dim=4, head_items=3, head_matrix="symmetric"))
    moved(model)
    model.set_item_prior(torch.zeros(4))
    with torch.no_grad():
        model.text_bias.weight.zero_()
    history, candidates = rows(torch.randn(1, 3, 9)), rows(torch.randn(1, 4, 9))
    assert model(history, recent([[0]], 3), candidates).abs().max() == 0


@pytest.mark.parametrize("head", ["multi_lag", "bilinear"])
def test_fixed_score_terms_keep_the_text_bias_out_of_training(head: str) -> None:
    for terms, trained in (("trained", True), ("fixed", False)):
        model = build_head(10, ModelConfig(head=head, head_hidden=0, score_terms=terms))
        assert model.text_bias.weight.requires_grad is trained
        assert model.mix.weight.requires_grad


def test_hidden_zero_makes_linear_towers() -> None:
    model = MultiLagHead(10, ModelConfig(head_dim=4, head_hidden=0))
    assert [type(m).__name__ for m in model.candidate] == ["Linear"]

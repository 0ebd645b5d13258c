from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from client.private_step import PrivateStep
from common.errors import PrivacyError
from common.randomness import secure_source

Tensors = dict[str, torch.Tensor]


def norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))


def difference(left: Tensors, right: Tensors) -> Tensors:
    return {name: left[name] - right[name] for name in left}


def trainable_state(model: nn.Module) -> Tensors:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("bound", [0.01, 1.0, 1e6])
def test_one_unit_moves_the_clipped_sum_by_at_most_the_bound(
    text_scorer: Any, make_text_units: Any, bound: float, clipped_sum: Any
) -> None:
    units = make_text_units(6)
    whole = clipped_sum(text_scorer, units, text_scorer.unit_losses, bound=bound)
    for left_out in (0, 3, 5):
        rest = [unit for i, unit in enumerate(units) if i != left_out]
        neighbour = clipped_sum(text_scorer, rest, text_scorer.unit_losses, bound=bound)
        moved = norm(difference(whole, neighbour))
        assert 0 < moved <= bound * (1 + 1e-5)
        if bound < 1:  # every unit is clipped: the bound is reached, jointly over all tensors
            assert moved >= bound * (1 - 1e-4)


def test_clipping_is_the_definition(
    text_scorer: Any, make_text_units: Any, clipped_sum: Any
) -> None:
    units, bound = make_text_units(5), 3.0
    expected: Tensors = {}
    norms = []
    for unit in units:
        alone = clipped_sum(text_scorer, [unit], text_scorer.unit_losses, bound=1e9)
        norms.append(norm(alone))
        factor = min(1.0, bound / norms[-1])
        for name, gradient in alone.items():
            expected[name] = expected.get(name, 0.0) + factor * gradient
    assert min(norms) < bound < max(norms)  # some units are clipped, some are not
    measured = clipped_sum(text_scorer, units, text_scorer.unit_losses, bound=bound)
    assert norm(difference(measured, expected)) < 1e-5 * bound * len(units)


def test_microbatches_do_not_change_the_sum(
    text_scorer: Any, make_text_units: Any, clipped_sum: Any
) -> None:
    units = make_text_units(7)
    sums = [
        clipped_sum(text_scorer, units, text_scorer.unit_losses, microbatch_units=size)
        for size in (1, 3, 7, 16)
    ]
    for other in sums[1:]:
        assert norm(difference(sums[0], other)) < 1e-5


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_non_finite_unit_counts_as_zero(
    text_scorer: Any, make_text_units: Any, poison: float, clipped_sum: Any, private_step: Any
) -> None:
    units = make_text_units(4)

    def poisoned(batch: Sequence[Any]) -> torch.Tensor:
        factor = torch.tensor([poison if unit is units[1] else 1.0 for unit in batch])
        return text_scorer.unit_losses(batch) * factor

    without = [unit for unit in units if unit is not units[1]]
    expected = clipped_sum(text_scorer, without, text_scorer.unit_losses)
    measured = clipped_sum(text_scorer, units, poisoned)
    assert norm(difference(measured, expected)) < 1e-5
    with private_step(text_scorer) as step:
        step.step(units, poisoned)
    assert all(torch.isfinite(p).all() for p in trainable_state(text_scorer).values())


@pytest.mark.parametrize("scale", [1e30, 3e38])
def test_an_enormous_gradient_is_bounded(scale: float, clipped_sum: Any) -> None:
    model = nn.Linear(3, 1, bias=False)
    total = clipped_sum(model, [0], lambda units: model(torch.full((1, 3), scale))[:, 0])
    assert norm(total) <= 1 + 1e-6


def test_zero_gradient_and_norm_equal_to_the_bound_are_kept(clipped_sum: Any) -> None:
    model = nn.Linear(2, 1, bias=False)
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    total = clipped_sum(model, [0, 1], lambda units: model(rows)[:, 0], bound=5.0)
    assert total["weight"].tolist() == [[3.0, 4.0]]


def test_a_failing_step_changes_nothing_and_the_next_one_works(
    text_scorer: Any, make_text_units: Any, clipped_sum: Any, private_step: Any, seen: Any
) -> None:
    units, calls = make_text_units(4), []

    def second_microbatch_fails(batch: Sequence[Any]) -> torch.Tensor:
        calls.append(len(batch))
        losses = text_scorer.unit_losses(batch)
        return losses if len(calls) == 1 else losses.mean()

    expected = clipped_sum(text_scorer, units, text_scorer.unit_losses, microbatch_units=2)
    before = trainable_state(text_scorer)
    with private_step(text_scorer, microbatch_units=2, observe=seen) as step:
        with pytest.raises(PrivacyError, match="one loss per unit"):
            step.step(units, second_microbatch_fails)
        assert all(p.grad is None for p in text_scorer.parameters())
        after = trainable_state(text_scorer)
        assert all(torch.equal(before[name], after[name]) for name in before)
        step.step(units, text_scorer.unit_losses)
    assert norm(difference(seen["clipped_sum"][0], expected)) == 0.0


def test_frozen_tensors_stay_and_nothing_is_left_behind(
    text_scorer: Any, make_text_units: Any, private_step: Any
) -> None:
    frozen = {n: p.clone() for n, p in text_scorer.named_parameters() if not p.requires_grad}
    names = [name for name, _ in text_scorer.named_parameters()]
    for _ in range(2):  # a later round hooks the same model again
        before = trainable_state(text_scorer)
        with private_step(text_scorer) as step:
            step.step(make_text_units(3), text_scorer.unit_losses)
            assert all(p.grad is None for p in text_scorer.parameters())
        moved = difference(before, trainable_state(text_scorer))
        assert all(m.abs().max() > 0 for m in moved.values())
    for name, parameter in text_scorer.named_parameters():
        assert name not in frozen or torch.equal(parameter, frozen[name])
        assert not {key for key in vars(parameter) if key != "grad"}
        assert parameter.grad is None
    assert [name for name, _ in text_scorer.named_parameters()] == names
    assert not any(m._forward_hooks or m._backward_hooks for m in text_scorer.modules())
    with pytest.raises(PrivacyError, match="closed"):
        step.step(make_text_units(1), text_scorer.unit_losses)


def test_an_optimizer_over_other_tensors_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(PrivacyError, match="exactly the trainable parameters"):
        PrivateStep(
            model,
            torch.optim.SGD(model[0].parameters(), lr=1.0),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_units=1.0,
            source=secure_source(),
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sigma", -1.0),
        ("sigma", math.nan),
        ("bound", 0.0),
        ("bound", math.inf),
        ("expected_units", 0.0),
        ("microbatch_units", 0),
    ],
)
def test_impossible_public_parameters_are_refused(
    field: str, value: float, private_step: Any
) -> None:
    with pytest.raises(PrivacyError, match="must be"):
        private_step(nn.Linear(2, 1), **{field: value})

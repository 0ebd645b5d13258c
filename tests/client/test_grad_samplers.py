from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleHooks
from torch import nn

from client.grad_samplers import UnitGradients
from common.errors import PrivacyError

Losses = Callable[[Sequence[Any]], torch.Tensor]


def autograd_loop(
    model: nn.Module, units: Sequence[Any], unit_losses: Losses
) -> dict[str, torch.Tensor]:
    """Gradients of one unit at a time, stacked: what the hooks must equal."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows = [
        torch.autograd.grad(
            unit_losses([unit]).sum(),
            list(named.values()),
            allow_unused=True,
            materialize_grads=True,
        )
        for unit in units
    ]
    return {name: torch.stack([row[i] for row in rows]) for i, name in enumerate(named)}


def largest_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].shape == right[name].shape, name
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("texts", [1, 3])
def test_unit_gradients_of_the_real_model_equal_an_autograd_loop(
    text_scorer: Any, make_text_units: Any, texts: int, attention: str
) -> None:
    text_scorer.bert.get_base_model().set_attn_implementation(attention)
    units = make_text_units(5, texts)
    gradients = UnitGradients(text_scorer)
    measured = gradients.backward(units, text_scorer.unit_losses)
    gradients.close()
    expected = autograd_loop(text_scorer, units, text_scorer.unit_losses)
    assert len(expected) == 7  # A and B of query and value, head's weight and bias, scale
    assert all(float(e.abs().max()) > 1e-4 for e in expected.values())
    assert largest_difference(measured, expected) < 1e-5


class Towers(nn.Module):
    """A small model with every trait that matters: reuse, branches, rows, nesting, bias."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.deep = nn.Linear(4, 3, bias=False)
        self.scalar = nn.Linear(1, 1)
        self.unused = nn.Linear(5, 2)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)

    def unit_losses(self, units: Sequence[torch.Tensor]) -> torch.Tensor:
        rows = torch.stack(list(units))  # [B, N, 4]
        pooled = rows.mean(1)  # [B, 4]
        early = self.shared(rows.reshape(-1, 1, 4)).reshape(len(units), -1, 4)  # [B·N, 1, 4] inside
        late = self.shared(torch.tanh(self.frozen(self.shared(pooled))))  # [B, 4], nested reuse
        scores = torch.einsum("bnk,bk->bn", self.deep(early), self.deep(late))
        return self.scalar(scores[..., None]).square().mean(dim=(1, 2))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10_000))
def test_layers_may_be_used_several_times_with_other_numbers_of_rows(
    units: int, rows: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model, batch = Towers(), list(torch.randn(units, rows, 4))
    gradients = UnitGradients(model)
    measured = gradients.backward(batch, model.unit_losses)
    again = gradients.backward(batch, model.unit_losses)
    gradients.close()
    assert largest_difference(measured, again) == 0.0
    assert largest_difference(measured, autograd_loop(model, batch, model.unit_losses)) < 1e-5
    assert measured["unused.weight"].shape == (units, 2, 5)
    assert not measured["unused.weight"].any()


def test_gradients_are_single_precision_under_autocast() -> None:
    torch.manual_seed(0)
    model, batch = Towers(), list(torch.randn(3, 2, 4))

    def losses(units: Sequence[torch.Tensor]) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model.unit_losses(units)

    gradients = UnitGradients(model)
    measured = gradients.backward(batch, losses)
    gradients.close()
    assert {g.dtype for g in measured.values()} == {torch.float32}


def test_losses_that_touch_no_parameter_give_zero_gradients() -> None:
    model = Towers()
    gradients = UnitGradients(model)
    measured = gradients.backward([1, 2], lambda units: torch.zeros(len(units)))
    gradients.close()
    assert not any(g.any() for g in measured.values())
    assert measured["shared.bias"].shape == (2, 4)


def test_a_unit_without_rows_has_zero_gradient() -> None:
    model = nn.Linear(3, 2)
    gradients = UnitGradients(model)
    measured = gradients.backward(
        list(torch.zeros(4, 0, 3)), lambda units: model(torch.stack(list(units))).sum((1, 2))
    )
    gradients.close()
    assert measured["weight"].shape == (4, 2, 3)
    assert not measured["weight"].any()


def test_modes_are_restored_and_eval_mode_is_no_obstacle() -> None:
    model = Towers().eval()
    gradients = UnitGradients(model)
    measured = gradients.backward(list(torch.randn(2, 3, 4)), model.unit_losses)
    assert measured["shared.weight"].any()
    assert not any(module.training for module in model.modules())
    gradients.close()


def test_closing_leaves_nothing_and_allows_new_hooks() -> None:
    model = Towers()
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    units = list(torch.randn(2, 3, 4))
    first = UnitGradients(model)
    measured = first.backward(units, model.unit_losses)
    first.close()
    for name, module in model.named_modules():
        assert set(vars(module)) == before[name]
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    for parameter in model.parameters():
        assert not {k for k in vars(parameter) if k != "grad"}
        assert parameter.grad is None
    second = UnitGradients(model)
    first.close()  # a late second close must not disturb the new hooks
    assert largest_difference(measured, second.backward(units, model.unit_losses)) == 0.0
    second.close()
    with pytest.raises(PrivacyError, match="closed"):
        second.backward(units, model.unit_losses)


def test_opacus_own_table_stays_as_it_is() -> None:
    UnitGradients(Towers()).close()
    assert GradSampleHooks.GRAD_SAMPLERS[nn.Linear].__module__ == "opacus.grad_sample.linear"


def test_hooking_twice_is_refused_in_one_line() -> None:
    model = Towers()
    gradients = UnitGradients(model)
    with pytest.raises(PrivacyError, match="close the private step that still holds it"):
        UnitGradients(model)
    gradients.close()


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)),
        nn.Embedding(3, 2),
        nn.MultiheadAttention(4, 2),
    ],
)
def test_trainable_parameters_outside_linear_are_refused(model: nn.Module) -> None:
    with pytest.raises(PrivacyError, match=r"must belong to nn\.Linear, found .*\("):
        UnitGradients(model)


def test_a_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(PrivacyError, match="no trainable parameter"):
        UnitGradients(nn.Linear(2, 2).requires_grad_(False))


def test_averaged_losses_are_refused() -> None:
    model = Towers()
    gradients = UnitGradients(model)
    with pytest.raises(PrivacyError, match="one loss per unit"):
        gradients.backward(list(torch.randn(2, 3, 4)), lambda u: model.unit_losses(u).mean())
    gradients.close()


def test_rows_that_do_not_divide_among_units_are_refused() -> None:
    model = nn.Linear(3, 1)
    gradients = UnitGradients(model)
    with pytest.raises(PrivacyError, match="equally many for each"):
        gradients.backward([0, 1], lambda units: model(torch.ones(5, 3))[:2, 0])
    gradients.close()


@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("used_first", [True, False])
def test_an_output_that_the_losses_ignore_adds_nothing(rows: int, used_first: bool) -> None:
    """The activation of the ignored use must not be taken for that of the other."""
    model = nn.Linear(3, 1)

    def losses(units: Sequence[int]) -> torch.Tensor:
        if not used_first:
            model(torch.zeros(rows, 3))
        kept = model(torch.ones(len(units), 3))
        if used_first:
            model(torch.zeros(rows, 3))
        return kept[:, 0]

    gradients = UnitGradients(model)
    for _ in range(2):
        measured = gradients.backward([0, 1], losses)
        assert torch.equal(measured["weight"], torch.ones(2, 1, 3))
        assert torch.equal(measured["bias"], torch.ones(2, 1))
    gradients.close()

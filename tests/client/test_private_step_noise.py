"""The private step's noise, divisor and empty steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn

from common.randomness import RandomSource, secure_source, seeded_source

FALSE_ALARM = 1e-6  # of each statistical test, on a correct build
Tensors = dict[str, torch.Tensor]


def norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))


def difference(left: Tensors, right: Tensors) -> Tensors:
    return {name: left[name] - right[name] for name in left}


def trainable_state(model: nn.Module) -> Tensors:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def test_an_empty_step_runs_no_forward_adds_noise_and_steps(
    text_scorer: Any, private_step: Any, seen: Any
) -> None:
    def no_forward(units: Sequence[Any]) -> torch.Tensor:
        raise AssertionError("a forward on no units")

    before = trainable_state(text_scorer)
    with private_step(text_scorer, observe=seen) as step:
        step.step([], no_forward)
    assert norm(seen["clipped_sum"][0]) == 0
    after = trainable_state(text_scorer)
    for name in before:
        assert not torch.equal(before[name], after[name]), name
        assert seen["noised_sum"][0][name].abs().min() > 0


@pytest.mark.parametrize("expected_units", [4.0, 1000.0])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_divisor_is_the_public_constant(
    text_scorer: Any,
    make_text_units: Any,
    count: int,
    expected_units: float,
    private_step: Any,
    seen: Any,
) -> None:
    before = trainable_state(text_scorer)
    with private_step(text_scorer, expected_units=expected_units, observe=seen) as step:
        step.step(make_text_units(count), text_scorer.unit_losses)
    for name, after in trainable_state(text_scorer).items():
        moved = (before[name] - after).double()
        expected = seen["noised_sum"][0][name] / expected_units
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.statistical
def test_noise_is_accepted_at_its_sigma_and_rejected_at_nine_tenths(
    text_scorer: Any, private_step: Any, seen: Any
) -> None:
    sigma, bound = 2.5, 0.4
    with private_step(
        text_scorer, sigma=sigma, bound=bound, source=secure_source(), observe=seen
    ) as step:
        step.step([], text_scorer.unit_losses)
        step.step([], text_scorer.unit_losses)
    first, second = (torch.cat([t.flatten() for t in s.values()]) for s in seen["noised_sum"])
    low, high = stats.chi2.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], len(first))
    squares = float(first.square().sum()) / (sigma * bound) ** 2
    assert low < squares < high
    assert not low < squares * 0.9**2 < high  # had the noise been 0.9σ …
    assert not low < squares / 0.9**2 < high  # … or the claim
    assert stats.kstest(first.numpy() / (sigma * bound), "norm").pvalue > FALSE_ALARM
    correlation = float(first @ second / (first.norm() * second.norm()))
    assert abs(correlation) * math.sqrt(len(first)) < stats.norm.isf(FALSE_ALARM / 2)


def test_noise_is_added_once_per_step_to_the_clipped_sum(
    text_scorer: Any, make_text_units: Any, private_step: Any, seen: Any
) -> None:
    sigma, bound = 1.5, 2.0
    with private_step(
        text_scorer, sigma=sigma, bound=bound, observe=seen, microbatch_units=2
    ) as step:
        step.step(make_text_units(5), text_scorer.unit_losses)
    noise = difference(seen["noised_sum"][0], seen["clipped_sum"][0])
    names = [n for n, p in text_scorer.named_parameters() if p.requires_grad]
    source = seeded_source(0, "noise")
    for name in names:
        expected = sigma * bound * torch.from_numpy(source.normal(noise[name].numel()))
        torch.testing.assert_close(noise[name].flatten(), expected)
    assert step.tensors == tuple(sorted(names))


def run_twice(
    text_scorer: Any, units: Sequence[Any], source: RandomSource, private_step: Any
) -> Tensors:
    start = trainable_state(text_scorer)
    with private_step(text_scorer, source=source) as step:
        step.step(units, text_scorer.unit_losses)
        step.step(units, text_scorer.unit_losses)
    end = trainable_state(text_scorer)
    with torch.no_grad():
        for name, parameter in text_scorer.named_parameters():
            if name in start:
                parameter.copy_(start[name])
    return end


def test_seeded_runs_are_equal_and_secure_runs_differ(
    text_scorer: Any, make_text_units: Any, private_step: Any
) -> None:
    units = make_text_units(3)
    first, again, other = (
        run_twice(text_scorer, units, seeded_source(seed, "site"), private_step)
        for seed in (0, 0, 1)
    )
    secure, secure_again = (
        run_twice(text_scorer, units, secure_source(), private_step) for _ in range(2)
    )
    for name in first:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        assert not torch.equal(secure[name], secure_again[name])

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from client import clipping, self_test_statistics
from client.grad_samplers import UnitGradients
from client.self_test_step import SelfTestReport, self_test
from common.errors import SelfTestError
from common.randomness import RandomSource, secure_source


def run(model: Any, make_units: Callable[[], Sequence[Any]], **changes: Any) -> SelfTestReport:
    arguments: dict[str, Any] = {
        "declared_tensors": [n for n, p in model.named_parameters() if p.requires_grad],
        "noise_multiplier": 1.3,
        "max_grad_norm": 0.7,
        "sample_rate": 0.2,
        "source": secure_source(),
    }
    losses = changes.pop("unit_losses", model.unit_losses)
    return self_test(model, make_units, losses, **(arguments | changes))


@pytest.fixture
def make_units(make_text_units: Any) -> Callable[[], Sequence[Any]]:
    return lambda: make_text_units(3)


@pytest.mark.parametrize("sample_rate", [1.0, 0.2, 0.001])
def test_the_real_step_passes_and_the_model_is_left_alone(
    text_scorer: Any, make_units: Any, sample_rate: float
) -> None:
    before = {name: p.clone() for name, p in text_scorer.named_parameters()}
    report = run(text_scorer, make_units, sample_rate=sample_rate)
    assert report.gradient_error < 1e-5
    assert 1 - 1e-4 < report.sensitivity <= 1 + 1e-5
    assert report.noise_ratio == pytest.approx(1, abs=0.05)
    assert report.sample_rate == pytest.approx(sample_rate, rel=0.1)
    assert (report.tensors, report.units, len(report.lines())) == (7, 3, 5)
    for name, parameter in text_scorer.named_parameters():
        assert torch.equal(before[name], parameter)
    UnitGradients(text_scorer).close()  # no hook is left


def test_undeclared_and_missing_tensors_are_named(text_scorer: Any, make_units: Any) -> None:
    with pytest.raises(SelfTestError, match=r"not declared: .*'head\.bias'.*\['made\.up'\]"):
        run(text_scorer, make_units, declared_tensors=["made.up"])


def test_units_that_mix_are_found(text_scorer: Any, make_units: Any) -> None:
    def mixing(units: Sequence[Any]) -> torch.Tensor:
        losses: torch.Tensor = text_scorer.unit_losses(units)
        return losses * (1 + losses.detach().mean())

    with pytest.raises(SelfTestError, match="per-unit gradients differ"):
        run(text_scorer, make_units, unit_losses=mixing)


def test_gradients_that_are_all_zero_are_found(text_scorer: Any, make_units: Any) -> None:
    with pytest.raises(SelfTestError, match="per-unit gradients differ"):
        run(
            text_scorer,
            make_units,
            unit_losses=lambda units: 0.0 * text_scorer.unit_losses(units),
        )


def test_a_missing_clip_is_found(
    text_scorer: Any, make_units: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipping, "_ROUND_DOWN", 1.001)
    with pytest.raises(SelfTestError, match="moves the clipped sum"):
        run(text_scorer, make_units)


def test_a_nan_that_reaches_the_sum_is_found(
    text_scorer: Any, make_units: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = torch.where

    def keep_gradients(condition: Any, kept: Any, other: Any) -> Any:
        return kept if isinstance(kept, torch.Tensor) else where(condition, kept, other)

    monkeypatch.setattr(torch, "where", keep_gradients)
    with pytest.raises(SelfTestError, match="a NaN unit changes the clipped sum"):
        run(text_scorer, make_units)


@pytest.mark.statistical
@pytest.mark.parametrize("factor", [0.9, 0.0, 1.1])
def test_a_wrong_noise_scale_is_found(
    text_scorer: Any, make_units: Any, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """Power: 20,000 numbers at 0.9σ pass a 99.9% interval with probability below 1e-12."""
    normal = RandomSource.normal
    monkeypatch.setattr(RandomSource, "normal", lambda self, n: factor * normal(self, n))
    with pytest.raises(SelfTestError, match="declared standard deviation"):
        run(text_scorer, make_units)


def test_one_tensor_without_noise_is_found(
    text_scorer: Any, make_units: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = RandomSource.normal
    monkeypatch.setattr(
        RandomSource, "normal", lambda self, n: normal(self, n) if n != 8 else np.zeros(8)
    )
    with pytest.raises(SelfTestError, match=r"noise on head\.bias"):
        run(text_scorer, make_units)


def test_noise_that_repeats_is_found(
    text_scorer: Any, make_units: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        RandomSource, "normal", lambda self, n: np.random.default_rng(n).standard_normal(n)
    )
    with pytest.raises(SelfTestError, match=r"correlates|standard deviation"):
        run(text_scorer, make_units)


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_a_sampler_of_fixed_batches_is_found(
    text_scorer: Any, make_units: Any, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    def fixed_size(units: int, sample_rate: float, source: RandomSource) -> np.ndarray:
        return source.permutation(units)[: int(units * min(sample_rate, 0.99))]

    monkeypatch.setattr(self_test_statistics, "poisson_sample", fixed_size)
    with pytest.raises(SelfTestError, match="not Poisson"):
        run(text_scorer, make_units, sample_rate=rate)


def test_too_few_units_are_refused(text_scorer: Any, make_text_units: Any) -> None:
    with pytest.raises(SelfTestError, match="at least 2 synthetic units"):
        run(text_scorer, lambda: make_text_units(1))

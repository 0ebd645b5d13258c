"""The self-test before training: does the private step do what it claims, on this model?

It runs the real step on the real model with a few synthetic units and takes seconds; a
site refuses to train when it fails. Statistical checks that fail are repeated once with
fresh draws: a correct build fails the whole self-test less than once in 100,000 starts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import nn

from client.clipping import ClipRule
from client.grad_samplers import UnitGradients
from client.private_step import PrivateStep
from client.self_test_statistics import check_noise, check_sampler, noise_steps, twice
from common.errors import SelfTestError
from common.randomness import RandomSource

T = TypeVar("T")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class SelfTestReport:
    """What the self-test measured; every figure is from synthetic units.

    Attributes:
        tensors: number of trainable, declared tensors.
        units: number of synthetic units.
        gradient_error: largest distance of a unit's gradient from autograd's, L2; where
            updates are clipped, of the units' updates from what they add up to.
        sensitivity: largest move of the clipped sum by one unit ÷ C.
        noise_ratio: measured noise standard deviation ÷ σC.
        sample_rate: observed share of sampled units.
        seconds: wall time.
        share_ratio: measured standard deviation of the site's share of a sum's noise ÷ the
            planned one; None where the site adds its noise in full.
        clipping: what of a unit is clipped (`privacy.clipping`).
    """

    tensors: int
    units: int
    gradient_error: float
    sensitivity: float
    noise_ratio: float
    sample_rate: float
    seconds: float
    share_ratio: float | None = None
    clipping: Literal["gradient", "update"] = "gradient"

    def lines(self) -> list[str]:
        """The report, one line per check."""
        share = (
            []
            if self.share_ratio is None
            else [f"the site's share of the sum's noise has {self.share_ratio:.4f} of its plan"]
        )
        apart = (
            f"gradients of {self.units} units equal autograd's to {self.gradient_error:.1e}"
            if self.clipping == "gradient"
            else f"whole updates of {self.units} units add up to {self.gradient_error:.1e}, and "
            "the adapter is put back after each"
        )
        return [
            f"exactly the {self.tensors} declared tensors are trained",
            apart,
            f"one unit moves the clipped sum by at most {self.sensitivity:.6f} C",
            f"noise has {self.noise_ratio:.4f} of its declared standard deviation",
            f"sampler includes {self.sample_rate:.4f} of the units, independently",
            *share,
        ]


def self_test(
    model: nn.Module,
    make_units: Callable[[], Sequence[T]],
    unit_losses: Callable[[Sequence[T]], torch.Tensor],
    *,
    declared_tensors: Sequence[str],
    noise_multiplier: float,
    max_grad_norm: float,
    sample_rate: float,
    source: RandomSource,
    clip_rule: ClipRule = "flat",
) -> SelfTestReport:
    """Check the private step on `model`; the model is left as it was.

    Args:
        model: as it will be trained, not hooked by another step.
        make_units: gives at least 2 synthetic units, each with a non-zero gradient.
        unit_losses: as for `PrivateStep.step`, and deterministic.
        declared_tensors: names of all tensors that a release contains.
        noise_multiplier: σ > 0.
        max_grad_norm: C.
        sample_rate: q.
        source: the site's randomness, as the run will use it.
        clip_rule: how a unit is brought within C.

    Raises:
        SelfTestError: names the check that failed and by how much.
    """
    started, units = time.perf_counter(), make_units()
    if len(units) < 2:
        raise SelfTestError(f"self-test needs at least 2 synthetic units, got {len(units)}")
    tensors = check_tensors(model, declared_tensors)
    gradient_error, smallest_norm = _check_gradients(model, units, unit_losses)
    sensitivity = _check_clipping(model, units, unit_losses, smallest_norm / 2, source, clip_rule)
    return SelfTestReport(
        tensors=tensors,
        units=len(units),
        gradient_error=gradient_error,
        sensitivity=sensitivity,
        noise_ratio=twice(lambda: _check_noise(model, noise_multiplier, max_grad_norm, source)),
        sample_rate=twice(lambda: check_sampler(sample_rate, source)),
        seconds=time.perf_counter() - started,
    )


def check_tensors(model: nn.Module, declared: Sequence[str]) -> int:
    """The number of trainable tensors, which must be exactly the declared ones."""
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    if trainable != set(declared):
        raise SelfTestError(
            "self-test: the trainable tensors are not the declared ones; not declared: "
            f"{sorted(trainable - set(declared))}, not trainable: "
            f"{sorted(set(declared) - trainable)}; refusing to train"
        )
    return len(trainable)


def _check_gradients(
    model: nn.Module, units: Sequence[T], unit_losses: Callable[[Sequence[T]], torch.Tensor]
) -> tuple[float, float]:
    """Largest error of a unit's gradient (L2), and the smallest norm of one."""
    gradients = UnitGradients(model)
    try:
        measured = {n: g.double() for n, g in gradients.backward(units, unit_losses).items()}
    finally:
        gradients.close()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    errors, norms = [], []
    for index in range(len(units)):
        loss = unit_losses(units[index : index + 1]).sum()
        expected = torch.autograd.grad(
            loss, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        named = {n: e.double() for n, e in zip(parameters, expected, strict=True)}
        errors.append(_norm({n: measured[n][index] - named[n] for n in named}))
        norms.append(_norm(named))
    error, largest, smallest = max(errors), max(norms), min(norms)
    # To 1e-5; a model with tiny gradients must still show three digits.
    if not error <= min(1e-5 * max(1.0, largest), 1e-3 * largest) or not smallest > 0:
        raise SelfTestError(
            f"self-test: per-unit gradients differ from autograd's by {error:.2e} at norms "
            f"{smallest:.2e} to {largest:.2e}; refusing to train"
        )
    return error, smallest


def _check_clipping(
    model: nn.Module,
    units: Sequence[T],
    unit_losses: Callable[[Sequence[T]], torch.Tensor],
    bound: float,
    source: RandomSource,
    clip_rule: ClipRule,
) -> float:
    """Largest move of the clipped sum by one unit ÷ bound, where every unit is clipped."""

    def clipped_sum(some: Sequence[T], losses: Callable[[Sequence[T]], torch.Tensor]) -> Tensors:
        sums = _observe(
            model, 1.0, bound, source, "clipped_sum", lambda s: s.step(some, losses), clip_rule
        )
        return sums[0]

    def first_is_nan(some: Sequence[T]) -> torch.Tensor:
        losses = unit_losses(some)
        poison = torch.ones_like(losses)
        poison[0] = math.nan
        return losses * poison

    whole = clipped_sum(units, unit_losses)
    moves = [
        _distance(whole, clipped_sum([*units[:left_out], *units[left_out + 1 :]], unit_losses))
        for left_out in (0, len(units) - 1)
    ]
    sensitivity = max(moves) / bound
    if not sensitivity <= 1 + 1e-5:
        raise SelfTestError(
            f"self-test: one unit moves the clipped sum by {sensitivity:.6f} of the bound C; "
            "refusing to train"
        )
    without_first = clipped_sum(units[1:], unit_losses)
    if not _distance(clipped_sum(units, first_is_nan), without_first) <= 1e-4 * bound:
        raise SelfTestError("self-test: a NaN unit changes the clipped sum; refusing to train")
    return sensitivity


def _check_noise(
    model: nn.Module, noise_multiplier: float, max_grad_norm: float, source: RandomSource
) -> float:
    """Measured noise standard deviation ÷ σC, from empty steps."""
    steps = noise_steps(sum(p.numel() for p in model.parameters() if p.requires_grad))

    def empty_steps(step: PrivateStep) -> None:
        for _ in range(steps):
            step.step((), _no_losses)

    sums = _observe(model, noise_multiplier, max_grad_norm, source, "noised_sum", empty_steps)
    scale = noise_multiplier * max_grad_norm
    names = list(sums[0])
    draws = {n: torch.stack([each[n].flatten() for each in sums]) / scale for n in names}
    return check_noise(draws)


def _observe(
    model: nn.Module,
    noise_multiplier: float,
    max_grad_norm: float,
    source: RandomSource,
    stage: str,
    run: Callable[[PrivateStep], None],
    clip_rule: ClipRule = "flat",
) -> list[Tensors]:
    """What real steps show at `stage`; the parameters do not move (learning rate 0)."""
    seen: list[Tensors] = []

    def note(at: str, tensors: Tensors) -> None:
        if at == stage:
            seen.append(tensors)

    trainable = [p for p in model.parameters() if p.requires_grad]
    with PrivateStep(
        model,
        torch.optim.SGD(trainable, lr=0.0),
        noise_multiplier=noise_multiplier,
        max_grad_norm=max_grad_norm,
        expected_units=1.0,
        source=source,
        clip_rule=clip_rule,
        observe=note,
    ) as step:
        run(step)
    return seen


def _no_losses(units: Sequence[object]) -> torch.Tensor:
    raise SelfTestError(f"self-test: an empty step ran a forward over {len(units)} units")


def _distance(left: Tensors, right: Tensors) -> float:
    return _norm({name: left[name] - right[name] for name in left})


def _norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))

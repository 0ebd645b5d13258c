"""One differentially private step: clip per unit, sum, add noise, divide, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar

import torch
from opacus.optimizers import DPOptimizer
from torch import nn

from client.clipping import ClipRule, clip_factors
from client.grad_samplers import UnitGradients
from common.errors import PrivacyError
from common.randomness import RandomSource

T = TypeVar("T")

# Called with what is inside a step, by tests, the self-test and the audit; never in a run.
Observer: TypeAlias = Callable[
    [Literal["clipped_sum", "noised_sum"], dict[str, torch.Tensor]], None
]


class PrivateStep:
    """The Gaussian mechanism on the sum of clipped per-unit gradients.

    Guarantee: one call of `step` releases (through the updated parameters) a function of
    ``Σᵤ clip(gᵤ) + N(0, (σC)²)``, where gᵤ is unit u's gradient over *all* trainable tensors
    jointly. Adding or removing one unit moves the sum by at most C in L2 norm, so the step
    costs one Gaussian event of noise multiplier σ (a sampled one, if the units came from
    `client.sampling.poisson_sample`).

    - A unit with any NaN or infinite gradient entry (or one so large that float32 cannot
      scale it down to C) counts as a zero gradient.
    - No units at all: the sum is zero, noise is added and the optimizer steps all the same.
    - The divisor is `expected_units`, a public constant, never the number of units.
    - Clipping in float32 with float64 norms; sum and noise in float64, then rounded once.

    Public parameters are fields; the units, which are private, are call arguments only.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_units: float,
        source: RandomSource,
        clip_rule: ClipRule = "flat",
        microbatch_units: int = 16,
        observe: Observer | None = None,
    ) -> None:
        """Hook the model; `close` (or the end of a ``with`` block) unhooks it.

        Args:
            model: on its device and with its final `requires_grad`; every trainable
                parameter belongs to an ``nn.Linear``.
            optimizer: over exactly the model's trainable parameters.
            noise_multiplier: σ ≥ 0, noise standard deviation ÷ C. 0 makes no claim.
            max_grad_norm: C > 0.
            expected_units: public divisor, e.g. sample_rate · declared units.
            source: the site's randomness for the noise.
            clip_rule: how a unit is brought within C (`client.clipping`).
            microbatch_units: units per forward and backward pass; bounds memory only.
            observe: sees the clipped and the noised sum (before division), by name.

        Raises:
            PrivacyError: a parameter out of range, a model that cannot be hooked, or an
                optimizer that holds other parameters than the trainable ones.
        """
        _check_positive("max_grad_norm", max_grad_norm)
        _check_positive("expected_units", expected_units)
        _check_positive("microbatch_units", microbatch_units)
        if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
            raise PrivacyError(
                f"noise_multiplier must be non-negative and finite, got {noise_multiplier}"
            )
        self.noise_multiplier = noise_multiplier
        self.max_grad_norm = max_grad_norm
        self.expected_units = expected_units
        self.microbatch_units = microbatch_units
        self._observe = observe
        _check_same_parameters(model, optimizer)
        self._gradients = UnitGradients(model)
        self._optimizer = _UnitOptimizer(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_units=expected_units,
            source=source,
            clip_rule=clip_rule,
        )

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that are clipped jointly, noised and updated; sorted."""
        return tuple(sorted(self._gradients.parameters))

    def step(self, units: Sequence[T], unit_losses: Callable[[Sequence[T]], torch.Tensor]) -> None:
        """Run the mechanism once over `units` and update the model's parameters.

        Args:
            units: the units of this step; may be empty.
            unit_losses: called per microbatch of b units with gradients on, returns [b];
                unit i's loss depends on unit i and the parameters only.

        Raises:
            PrivacyError: the losses or a layer's rows do not fit the units. The parameters
                are then unchanged and nothing of the pass remains.
        """
        optimizer = self._optimizer
        try:
            self._accumulate(units, unit_losses)
            optimizer.add_noise()
            self._show("noised_sum", "noised_sum")
            optimizer.scale_grad()
            optimizer.original_optimizer.step()
        finally:
            optimizer.zero_grad(set_to_none=True)  # no raw gradient outlives the step

    def clipped_sum(
        self, units: Sequence[T], unit_losses: Callable[[Sequence[T]], torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The sum that `step` adds noise to, by tensor name, float64; nothing is updated.

        It is not noised and must not leave the site as it is. Arguments and errors: `step`.
        """
        try:
            self._accumulate(units, unit_losses)
            named = self._gradients.parameters.items()
            return {name: _summed(p).clone() for name, p in named}
        finally:
            self._optimizer.zero_grad(set_to_none=True)

    def _accumulate(
        self, units: Sequence[T], unit_losses: Callable[[Sequence[T]], torch.Tensor]
    ) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        for start in range(0, len(units), self.microbatch_units):
            self._gradients.backward(units[start : start + self.microbatch_units], unit_losses)
            self._optimizer.clip_and_accumulate()
        self._optimizer.complete_sum()
        self._show("clipped_sum", "summed_grad")

    def close(self) -> None:
        """Take the hooks off; the model can be hooked again. A second call does nothing."""
        self._gradients.close()
        self._optimizer.forget()

    def __enter__(self) -> Self:
        """The step itself; closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _show(self, stage: Literal["clipped_sum", "noised_sum"], attribute: str) -> None:
        if self._observe is not None:
            named = self._gradients.parameters.items()
            self._observe(stage, {name: getattr(p, attribute).clone() for name, p in named})


class _UnitOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus is untyped
    """Opacus' optimizer with an exact bound, non-finite units zeroed and own noise."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_units: float,
        source: RandomSource,
        clip_rule: ClipRule,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._expected_units = expected_units
        self._source = source
        self._clip_rule: ClipRule = clip_rule

    def clip_and_accumulate(self) -> None:
        """Add the microbatch's clipped units to `summed_grad` (float64)."""
        norms = torch.stack(
            [
                torch.linalg.vector_norm(g.flatten(start_dim=1), dim=1, dtype=torch.float64)
                for g in self.grad_samples  # each [B, *shape] float32
            ]
        )
        norm = torch.linalg.vector_norm(norms, dim=0)  # [B]; NaN or inf where any entry is
        factor = clip_factors(norm, self.max_grad_norm, self._clip_rule).float()
        usable = factor >= torch.finfo(torch.float32).tiny  # False where a norm is not finite
        for parameter in self.params:
            g = parameter.grad_sample
            shape = (-1,) + (1,) * (g.dim() - 1)
            clipped = torch.where(usable.view(shape), g * factor.view(shape), 0.0)
            total = clipped.sum(dim=0, dtype=torch.float64)
            parameter.summed_grad = (
                total if parameter.summed_grad is None else parameter.summed_grad + total
            )
            parameter.grad_sample = None

    def complete_sum(self) -> None:
        """An empty step's sum is zero, of the right shape."""
        for parameter in self.params:
            if parameter.summed_grad is None:
                parameter.summed_grad = torch.zeros_like(parameter, dtype=torch.float64)

    def add_noise(self) -> None:
        """Fresh noise of standard deviation σC on every entry of every tensor."""
        for parameter in self.params:
            drawn = torch.from_numpy(self._source.normal(parameter.numel()))
            noise = drawn.view(parameter.shape).to(parameter.device)
            scale = self.noise_multiplier * self.max_grad_norm
            parameter.noised_sum = parameter.summed_grad + scale * noise

    def scale_grad(self) -> None:
        """Divide by the public constant and round once to the parameter's precision."""
        for parameter in self.params:
            parameter.grad = (parameter.noised_sum / self._expected_units).to(parameter.dtype)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop every gradient, raw, summed or noised."""
        super().zero_grad(set_to_none)
        for parameter in self.params:
            parameter.noised_sum = None

    def forget(self) -> None:
        """Take the sums' attributes off the parameters."""
        for parameter in self.params:
            for attribute in ("summed_grad", "noised_sum"):
                if hasattr(parameter, attribute):
                    delattr(parameter, attribute)


def _summed(parameter: nn.Parameter) -> torch.Tensor:
    """What `_UnitOptimizer` keeps on a parameter, float64."""
    total: torch.Tensor = parameter.summed_grad  # type: ignore[attr-defined]
    return total


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise PrivacyError(f"{name} must be positive and finite, got {value}")


def _check_same_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    groups: list[dict[str, Any]] = optimizer.param_groups
    held = [p for group in groups for p in group["params"] if p.requires_grad]
    trainable = [p for p in model.parameters() if p.requires_grad]
    if {id(p) for p in held} != {id(p) for p in trainable}:
        raise PrivacyError(
            f"the optimizer holds {len(held)} trainable tensors, the model has "
            f"{len(trainable)}; build the optimizer over exactly the trainable parameters"
        )

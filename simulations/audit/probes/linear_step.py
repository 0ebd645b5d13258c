"""The production step on a model whose per-unit gradients the audit can choose.

The model is one trained `nn.Linear` per tensor, and a unit's loss is the sum of their outputs
on the unit's numbers: the unit's gradient *is* those numbers. Everything after the gradient
(clipping, sum, noise, divisor, update) is `client.private_step`, as a run uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from client.clipping import ClipRule
from client.private_step import PrivateStep
from common.randomness import RandomSource

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mechanism:
    """Public parameters of the step.

    Attributes:
        sizes: numbers in each trained tensor.
        noise_multiplier: σ.
        max_grad_norm: C.
        clip_rule: as the run's.
        expected_units: the public divisor.
        microbatch_units: units per backward pass.
    """

    sizes: tuple[int, ...]
    noise_multiplier: float
    max_grad_norm: float = 1.0
    clip_rule: ClipRule = "flat"
    expected_units: float = 1.0
    microbatch_units: int = 4096

    @property
    def coordinates(self) -> int:
        """d, numbers in all tensors."""
        return sum(self.sizes)


@dataclass(frozen=True)
class Observed:
    """What the steps showed.

    Attributes:
        clipped: ``[steps, d]``, the sums before noise.
        noised: ``[steps, d]``, the sums after noise: what the mechanism releases.
        tensors: names of the tensors that the step noises, in the order of `d`.
        update: ``[d]``, how the last step moved the parameters at step size 1.
    """

    clipped: Floats
    noised: Floats
    tensors: tuple[str, ...]
    update: Floats


@dataclass
class _Model:
    """One Linear per tensor, and the step's losses over rows of gradients."""

    sizes: tuple[int, ...]
    layers: nn.ModuleList = field(init=False)

    def __post_init__(self) -> None:
        self.layers = nn.ModuleList(nn.Linear(size, 1, bias=False) for size in self.sizes)
        with torch.no_grad():
            for parameter in self.layers.parameters():
                parameter.zero_()

    def losses(self, units: Sequence[torch.Tensor]) -> torch.Tensor:
        """One loss per unit; its gradient is the unit's numbers."""
        columns = torch.stack(list(units)).split(self.sizes, dim=1)
        outputs = [layer(part) for layer, part in zip(self.layers, columns, strict=True)]
        return torch.cat(outputs, dim=1).sum(dim=1)


def observed_steps(
    mechanism: Mechanism, steps: Iterable[Floats | torch.Tensor], source: RandomSource
) -> Observed:
    """Runs the production step once per element of `steps`.

    Args:
        mechanism: the step's public parameters.
        steps: the units' raw gradients ``[k, d]`` of each step; k may be 0.
        source: of the noise.
    """
    model = _Model(mechanism.sizes)
    names = [f"{place}.weight" for place in range(len(mechanism.sizes))]
    seen: dict[str, list[Floats]] = {"clipped_sum": [], "noised_sum": []}

    def note(stage: str, tensors: dict[str, torch.Tensor]) -> None:
        seen[stage].append(np.concatenate([tensors[name].numpy().ravel() for name in names]))

    optimizer = torch.optim.SGD(model.layers.parameters(), lr=1.0)
    with PrivateStep(
        model.layers,
        optimizer,
        noise_multiplier=mechanism.noise_multiplier,
        max_grad_norm=mechanism.max_grad_norm,
        expected_units=mechanism.expected_units,
        source=source,
        clip_rule=mechanism.clip_rule,
        microbatch_units=mechanism.microbatch_units,
        observe=note,
    ) as step:
        before = _flat(model)
        for units in steps:
            before = _flat(model)
            rows = torch.as_tensor(units, dtype=torch.float32)
            step.step(rows, model.losses)  # type: ignore[arg-type]  # a tensor of rows
        tensors = step.tensors
    return Observed(
        np.array(seen["clipped_sum"]), np.array(seen["noised_sum"]), tensors, _flat(model) - before
    )


def dirac(place: int, raw_norm: float, coordinates: int) -> Floats:
    """``[1, d]``: a unit whose gradient is one number."""
    unit = np.zeros((1, coordinates))
    unit[0, place] = raw_norm
    return unit


def _flat(model: _Model) -> Floats:
    parts = [p.detach().double().numpy().ravel() for p in model.layers.parameters()]
    return np.concatenate(parts).astype(np.float64)

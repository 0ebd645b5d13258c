"""How the server turns the sites' mean update into the next global adapter.

Δ is the mean of (new minus received) over sites, η is `federation.server_lr`, β is
`federation.server_momentum`, t counts applied steps from 1. All rules work per coordinate
in float64 and round once, to float32. Sources:

- ``fedavg`` (McMahan et al. 2017, arXiv:1602.05629; η = 1 is the plain mean):
  x ← x + η Δ
- ``fedavgm`` (Hsu, Qi & Brown 2019, arXiv:1909.06335, with Nesterov's momentum):
  m ← β m + Δ;  x ← x + η (Δ + β m)
- ``fedadam`` (Reddi et al. 2021, arXiv:2003.00295, algorithm 2, with the bias correction
  of Kingma & Ba 2015, arXiv:1412.6980, and a small τ as there):
  m ← β m + (1-β) Δ;  v ← β₂ v + (1-β₂) Δ²;
  x ← x + η · (m / (1-βᵗ)) / (√(v / (1-β₂ᵗ)) + τ)

The step reads only released updates, so it is post-processing and costs no ε.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.adapters import Adapter, all_finite, check_same_shapes, shapes
from common.config import FederationConfig
from common.errors import FederationError

ADAM_BETA_2 = 0.99
ADAM_TAU = 1e-8

Moments = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class OptimizerState:
    """What the server carries from round to round.

    Attributes:
        steps: updates applied so far.
        first: first moments m by tensor name; empty before the first step.
        second: second moments v (fedadam only).
    """

    steps: int = 0
    first: Moments = field(default_factory=dict)
    second: Moments = field(default_factory=dict)


def server_step(
    adapter: Adapter, update: Adapter, state: OptimizerState, config: FederationConfig
) -> tuple[Adapter, OptimizerState]:
    """One step of `config.server_optimizer`; its arguments are left as they are.

    Args:
        adapter: the global adapter x.
        update: the sites' mean update Δ, same names and shapes.
        state: state after the last step; `OptimizerState()` at the start.
        config: the federation section of the run's configuration.

    Returns:
        The new global adapter and the new state.

    Raises:
        FederationError: The new adapter would not be finite.
        MessageError: `update` and `adapter` differ in names or shapes.
    """
    check_same_shapes(shapes(adapter), shapes(update))
    delta = {name: update[name].astype(np.float64) for name in sorted(update)}
    step = {"fedavg": _fedavg, "fedavgm": _fedavgm, "fedadam": _fedadam}[config.server_optimizer]
    direction, new_state = step(delta, state, config)
    with np.errstate(over="ignore"):  # an overflow becomes inf, and is refused below
        new = {
            name: (adapter[name] + config.server_lr * direction[name]).astype(np.float32)
            for name in sorted(adapter)
        }
    if not all_finite(new):
        raise FederationError(
            f"the {config.server_optimizer} step gave a non-finite adapter with "
            f"federation.server_lr={config.server_lr}; lower federation.server_lr"
        )
    return new, new_state


def _fedavg(
    delta: Moments, state: OptimizerState, _: FederationConfig
) -> tuple[Moments, OptimizerState]:
    return delta, OptimizerState(state.steps + 1)


def _fedavgm(
    delta: Moments, state: OptimizerState, config: FederationConfig
) -> tuple[Moments, OptimizerState]:
    beta = config.server_momentum
    first = {n: beta * _or_zeros(state.first, n, d) + d for n, d in delta.items()}
    direction = {n: d + beta * first[n] for n, d in delta.items()}
    return direction, OptimizerState(state.steps + 1, first)


def _fedadam(
    delta: Moments, state: OptimizerState, config: FederationConfig
) -> tuple[Moments, OptimizerState]:
    beta, steps = config.server_momentum, state.steps + 1
    first = {n: beta * _or_zeros(state.first, n, d) + (1 - beta) * d for n, d in delta.items()}
    second = {
        n: ADAM_BETA_2 * _or_zeros(state.second, n, d) + (1 - ADAM_BETA_2) * d * d
        for n, d in delta.items()
    }
    first_scale = 1 / (1 - beta**steps)
    second_scale = 1 / (1 - ADAM_BETA_2**steps)
    direction = {
        n: first_scale * first[n] / (np.sqrt(second_scale * second[n]) + ADAM_TAU) for n in delta
    }
    return direction, OptimizerState(steps, first, second)


def _or_zeros(
    moments: Mapping[str, npt.NDArray[np.float64]], name: str, like: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return moments[name] if name in moments else np.zeros_like(like)

"""A2 on chosen gradients: whatever a unit brings, the production step's sum moves by at most C."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.randomness import seeded_source
from simulations.audit.finding import Finding
from simulations.audit.instrumented.outcome import outcome
from simulations.audit.probes.case import Budget, ProbeCase
from simulations.audit.probes.linear_step import Mechanism, observed_steps
from simulations.audit.probes.sources import CountingSource

Floats = npt.NDArray[np.float64]

SLACK = 1e-5
_SIZES = (48, 16)
_RAW_NORMS = (0.1, 1.0, 10.0, 1e6)  # of the unit that comes and goes, in units of C
_COMPANIONS = 3


def run(case: ProbeCase, budget: Budget) -> list[Finding]:
    """One unit more or less: the sum, and units that are not finite."""
    mechanism = Mechanism(
        _SIZES,
        noise_multiplier=1.0,
        max_grad_norm=case.config.privacy.max_grad_norm,
        clip_rule=case.config.privacy.clip_rule,
        microbatch_units=2,  # so that a step has more than one pass
    )
    return [_sensitivity(mechanism), _non_finite(mechanism)]


def _sensitivity(mechanism: Mechanism) -> Finding:
    """The hardest pairs: a unit that points against all others, short and long."""
    companions, direction = _companions(mechanism)
    moves = []
    for raw in _RAW_NORMS:
        unit = -raw * mechanism.max_grad_norm * direction[None]
        with_unit, without = _sums(mechanism, [np.vstack([companions, unit]), companions])
        moves.append(float(np.linalg.norm(with_unit - without)) / mechanism.max_grad_norm)
    return outcome(
        "A2",
        "step.sensitivity",
        holds=bool(max(moves) <= 1 + SLACK),
        reason=f"One unit moved the step's clipped sum by up to {max(moves):.6f} C; "
        f"the claim allows {1 + SLACK:g} C.",
        statistic={
            f"at_raw_norm_{raw:g}_C": move for raw, move in zip(_RAW_NORMS, moves, strict=True)
        },
    )


def _non_finite(mechanism: Mechanism) -> Finding:
    """NaN, infinite and overflowing units count as nothing, and spoil no other unit."""
    companions, direction = _companions(mechanism)
    faults = {"nan": np.nan, "inf": np.inf, "overflow": 3e38}
    clean = _sums(mechanism, [companions])[0]
    moved = {}
    for name, value in faults.items():
        unit = direction[None].copy()
        unit[0, 0] = value
        total = _sums(mechanism, [np.vstack([companions, unit])])[0]
        moved[name] = float(np.linalg.norm(total - clean)) / mechanism.max_grad_norm
    worst = max(moved.values()) if np.isfinite(list(moved.values())).all() else np.inf
    return outcome(
        "A2",
        "step.non_finite",
        holds=bool(worst <= 1 + SLACK),
        reason="A unit with a NaN, infinite or overflowing gradient moved the clipped sum by up "
        f"to {worst:.6f} C; the claim allows {1 + SLACK:g} C.",
        # NaN has no place in JSON, and None says that it is no number.
        statistic={name: v if np.isfinite(v) else None for name, v in moved.items()},
    )


def _companions(mechanism: Mechanism) -> tuple[Floats, Floats]:
    """Units ``[k, d]`` of 10 C that share most of one direction ``[d]``, of norm 1."""
    draws = seeded_source(3, "audit", "companions")
    direction = draws.normal(mechanism.coordinates)
    direction /= np.linalg.norm(direction)
    spread = draws.normal(_COMPANIONS * mechanism.coordinates).reshape(_COMPANIONS, -1)
    companions = direction + 0.02 * spread
    companions *= 10 * mechanism.max_grad_norm / np.linalg.norm(companions, axis=1)[:, None]
    return companions, direction


def _sums(mechanism: Mechanism, steps: list[Floats]) -> Floats:
    return observed_steps(mechanism, steps, CountingSource(silent=True)).clipped

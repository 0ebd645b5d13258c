"""How a unit's gradient, or its whole update, is scaled so that no unit counts for too much.

``flat`` scales what is longer than C down to C and leaves the rest. ``auto_s`` scales every
unit to C·n/(n + γ), n being its norm (Bu, Wang, Zha & Karypis 2023, AUTO-S with γ = 0.01):
then the learning rate alone sets the step, and C need not be tuned.
"""

from __future__ import annotations

from typing import Literal

import torch

ClipRule = Literal["flat", "auto_s"]

# A scaled unit ends at most at C(1 − 1e-6): rounding to float32 cannot lift it above C.
_ROUND_DOWN = 1 - 1e-6
_STABILITY = 0.01


def clip_factors(
    norms: torch.Tensor, max_grad_norm: float, rule: ClipRule = "flat"
) -> torch.Tensor:
    """What each unit is scaled by.

    Guarantee: a unit times its factor has L2 norm at most C, by either rule; a norm that is
    NaN or infinite has factor 0, and so has one so large that C ÷ norm is 0.

    Args:
        norms: float64 ``[B]``, joint L2 norms over all trainable tensors.
        max_grad_norm: C > 0.
        rule: see the module.

    Returns:
        float64 ``[B]``, finite and non-negative.
    """
    scaled = max_grad_norm * _ROUND_DOWN / (norms + (_STABILITY if rule == "auto_s" else 0.0))
    factors = scaled if rule == "auto_s" else torch.where(norms <= max_grad_norm, 1.0, scaled)
    return torch.where(torch.isfinite(norms), factors, 0.0)

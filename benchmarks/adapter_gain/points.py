"""What the search tries: settings laid over the first ones of `plan.py`, each under a name.

They are in the order in which they were tried: later points follow from what earlier ones
showed on validation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

FIRST = "first"
"""The point without a setting of its own."""
_FULL = ("privacy.negatives_per_unit=0", "model.lora_rows=4")
_WIDE = ("model.lora_rank=16", "model.lora_layers=2")
_BOTH_SIDES = (
    "model.history_gradient=true",
    "federation.units_per_step=2",
    "model.lora_rank=16",
    "model.lora_rows=4",
)
PLAIN: Mapping[str, tuple[str, ...]] = {
    FIRST: (),
    "full-wide": (*_FULL, *_WIDE, "federation.local_lr=0.01"),
    "both-sides": _BOTH_SIDES,
}
PRIVATE: Mapping[str, tuple[str, ...]] = {
    FIRST: (),
    "both-sides": (
        "model.history_gradient=true",
        "privacy.sample_rate=0.5",
        "federation.rounds=1",
        "federation.local_lr=10.0",
    ),
}
POINTS = tuple(dict.fromkeys([*PLAIN, *PRIVATE]))


def settings_of(point: str, epsilon: float) -> tuple[str, ...]:
    """What `point` lays over the first settings at `epsilon`, as ``--set`` takes it."""
    return (PLAIN if math.isinf(epsilon) else PRIVATE)[point]
